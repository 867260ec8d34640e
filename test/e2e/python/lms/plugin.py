"""The plugin at work: its receivers, and what it would send for an event."""
import importlib
from unittest import mock

import requests
from openedx_webhooks import receivers
from openedx_webhooks.apps import signals
from openedx_webhooks.models import Webhook


def receiver(signal):
    """The plugin's own receiver of a signal."""
    for app, constants in signals.items():
        module = importlib.import_module(f"openedx_events.{app}.signals")
        for constant in constants:
            if getattr(module, constant, None) is signal:
                return getattr(receivers, f"{constant.lower()}_receiver")
    raise LookupError(f"the plugin has no receiver of {signal.event_type}")


def bodies(metadata, data):
    """The bodies of the requests that the plugin makes for an event, JSON and form. data is the signal's one argument.

    The plugin's receiver runs as it is, with two rows that are in no database and a client that sends nothing.
    """
    rows = [Webhook(webhook_url="http://127.0.0.1/", use_www_form_encoding=form) for form in (False, True)]
    sent = []

    def post(url, **options):
        options.pop("timeout")
        sent.append(requests.Request("POST", url, **options).prepare().body)
        response = requests.Response()
        response.status_code = 200
        return response

    with mock.patch.object(Webhook, "objects") as manager, mock.patch("openedx_webhooks.utils.requests.post", post):
        manager.filter.return_value.order_by.return_value = rows
        receivers._process_event("any", data, metadata=metadata)
    return dict(zip(("json", "form"), sent, strict=True))
