"""
Write catalogue.json and avro/<event type>.avsc into the directory named by the first argument.

Run by the script `update` beside this file, in an environment that holds openedx-events and openedx-webhooks.
"""

import importlib
import importlib.util
import json
import pathlib
import pkgutil
import sys
from datetime import datetime
from importlib.metadata import version
from typing import get_args, get_origin

import attr
import django
from django.conf import settings

settings.configure(INSTALLED_APPS=[], USE_TZ=True)
django.setup()

import openedx_events  # noqa: E402  (Django must be configured first)
from openedx_events.event_bus.avro.schema import schema_from_signal  # noqa: E402
from openedx_events.tooling import OpenEdxPublicSignal  # noqa: E402


def signals():
    """Return (constant, signal) of every domain, domains sorted, signals in the order of their definition."""
    found = []
    for module in sorted(pkgutil.iter_modules(openedx_events.__path__), key=lambda module: module.name):
        if not module.ispkg:
            continue
        name = f"openedx_events.{module.name}.signals"
        if importlib.util.find_spec(name) is None:
            continue
        for constant, value in vars(importlib.import_module(name)).items():
            if isinstance(value, OpenEdxPublicSignal):
                found.append((constant, value))
    if {signal.event_type for _, signal in found} != {signal.event_type for signal in OpenEdxPublicSignal.all_events()}:
        raise SystemExit("a signal is defined outside of the domains' signals modules")
    return found


def handled():
    """Return the constants of the signals that the plugin has a receiver for."""
    from openedx_webhooks.apps import signals as by_domain

    return {constant for constants in by_domain.values() for constant in constants}


def datetimes(data_type, path, inside=()):
    """Return the paths of all datetimes below path. `*` stands for any item of a list or any key of a map."""
    if data_type is datetime:
        return [path]
    if get_origin(data_type) is list:
        return datetimes(get_args(data_type)[0], path + ".*", inside)
    if get_origin(data_type) is dict:
        return datetimes(get_args(data_type)[1], path + ".*", inside)
    if attr.has(data_type) and data_type not in inside:
        return [
            found
            for field in attr.fields(data_type)
            for found in datetimes(field.type, f"{path}.{field.name}", (*inside, data_type))
        ]
    return []


def avro(signal):
    """Return the signal's Avro schema as text, None where the event bus cannot serialise it."""
    try:
        schema = schema_from_signal(signal)
    except TypeError:
        return None
    return json.dumps(schema, indent=2, sort_keys=True) + "\n"


def main(target):
    plugin = handled()
    catalogue = []
    (target / "avro").mkdir(exist_ok=True)
    for old in (target / "avro").glob("*.avsc"):
        old.unlink()
    for constant, signal in signals():
        if len(signal.init_data) != 1:
            raise SystemExit(f"{constant}: has {len(signal.init_data)} arguments; the catalogue's format knows one")
        ((kwarg, data_class),) = signal.init_data.items()
        schema = avro(signal)
        if schema is not None:
            (target / "avro" / f"{signal.event_type}.avsc").write_text(schema, encoding="utf-8")
        catalogue.append({
            "type": signal.event_type,
            "constant": constant,
            "kwarg": kwarg,
            "class": f"{data_class.__module__}.{data_class.__qualname__}",
            "datetimes": datetimes(data_class, kwarg),
            "minor": signal.minor_version,
            "plugin": constant in plugin,
            "on_bus": schema is not None,
        })
    missing = plugin - {signal["constant"] for signal in catalogue}
    if missing:
        raise SystemExit(f"the plugin handles signals that this openedx-events does not have: {sorted(missing)}")
    text = json.dumps(
        {
            "openedx_events": version("openedx-events"),
            "openedx_webhooks": version("openedx-webhooks"),
            "signals": catalogue,
        },
        indent=2,
    )
    (target / "catalogue.json").write_text(text + "\n", encoding="utf-8")
    print(f"{len(catalogue)} signals, {sum(signal['on_bus'] for signal in catalogue)} schemas")


main(pathlib.Path(sys.argv[1]))
