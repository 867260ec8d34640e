#!/usr/bin/env python
"""Calls Open edX filters with the webhooks plugin in their pipelines, as the LMS does, and tells what came of it.

A case is a line of JSON on standard input: the filter's name, the plugin's rows, and arguments to replace (JSON as Python reads it;
members of an object that is an argument already are merged into it). For each a line of JSON goes to standard output: what the
filter returned or raised, and what became of its arguments. Each case starts from the same database. At the first line, before any
case, stand the filters that the plugin is registered for.
"""
import json
import os
import sys

import django
from requests.exceptions import RequestException

os.environ["DJANGO_SETTINGS_MODULE"] = "settings"
django.setup()

from django.conf import settings  # noqa: E402
from django.core.management import call_command  # noqa: E402
from django.db import transaction  # noqa: E402

from arguments import arguments, fill  # noqa: E402
from describe import describe, describe_exception  # noqa: E402
from openedx_filters.tooling import OpenEdxPublicFilter  # noqa: E402
from openedx_webhooks.models import Webfilter  # noqa: E402


class Recorder:
    """Tells what pipelines give back to filters, of which some pass on a part only."""

    def __init__(self):
        run = OpenEdxPublicFilter.run_pipeline.__func__

        def recorded(cls, **given):
            result = run(cls, **given)
            self.seen = describe(result)
            return result

        self.seen = ""
        OpenEdxPublicFilter.run_pipeline = classmethod(recorded)

    def take(self):
        seen, self.seen = self.seen, ""
        return seen


def replace(given, values):
    """Puts the values of a case into a filter's arguments."""
    for name, value in values.items():
        if isinstance(value, dict) and isinstance(given[name], dict):
            given[name].update(value)
        else:
            given[name] = value


def call(case, recorder):
    """The outcome of a case."""
    outcome = {"returned": "", "raised": None, "request_exception": False}
    kind, given = arguments(case["filter"])
    replace(given, case.get("arguments") or {})
    Webfilter.objects.bulk_create(Webfilter(event=case["filter"], **row) for row in case["rows"])
    try:
        outcome["returned"] = describe(kind.run_filter(**given))
    except Exception as error:  # whatever reaches the caller of the filter
        outcome["raised"] = describe_exception(error)
        outcome["request_exception"] = isinstance(error.__context__, RequestException)
    transaction.set_rollback(False)  # what the database refused has left the rest of the transaction as it is
    outcome["pipeline"] = recorder.take()
    outcome["arguments"] = {name: describe(value) for name, value in given.items()}
    return outcome


def main():
    call_command("migrate", verbosity=0, run_syncdb=True)
    fill()
    recorder = Recorder()
    steps = [step for config in settings.OPEN_EDX_FILTERS_CONFIG.values() for step in config["pipeline"]]
    names = [step.rsplit(".", 1)[1].removesuffix("WebFilter") for step in steps]
    print(json.dumps({"filters": names}), flush=True)
    for line in sys.stdin:
        with transaction.atomic():
            outcome = call(json.loads(line), recorder)
            transaction.set_rollback(True)
        print(json.dumps(outcome), flush=True)


if __name__ == "__main__":
    main()
