"""Rows of the plugin's tables, changed through Django's ORM as its admin pages do it."""
import json
import sys

from django.core.management.base import BaseCommand
from django.core.serializers.json import DjangoJSONEncoder
from django.db import connections
from django.forms.models import model_to_dict
from openedx_webhooks.models import Webfilter, Webhook

MODELS = {"webhook": Webhook, "webfilter": Webfilter}


def row(item):
    """A row as a dict, with the fields that a form would leave out."""
    return {**model_to_dict(item), "id": item.id, "created": item.created, "modified": item.modified}


def perform(request):
    """Carries out one operation and returns its answer. Values are not validated, so that wrong rows can be made."""
    rows = MODELS[request.get("model", "webhook")].objects
    match request["op"]:
        case "list":
            return {"rows": [row(item) for item in rows.order_by("id")]}
        case "add":
            return row(rows.create(**request["fields"]))
        case "edit":
            item = rows.get(id=request["id"])
            for name, value in request["fields"].items():
                setattr(item, name, value)
            item.save()
            return row(item)
        case "delete":
            return {"deleted": rows.filter(id=request["id"]).delete()[0]}
        case other:
            raise ValueError(f"unknown op {other!r}; there are list, add, edit, delete")


class Command(BaseCommand):
    help = """Carries out operations on the plugin's rows: each argument one, or each line of the standard input. An
operation is a JSON object, and so is its answer, one line for each:
{"op": "add", "fields": {"event": "COURSE_ENROLLMENT_CREATED", "webhook_url": "http://127.0.0.1:1/"}},
{"op": "edit", "id": 1, "fields": {"enabled": false}}, {"op": "delete", "id": 1}, {"op": "list"};
"model": "webfilter" means the other table. Exits 1 when one of them failed."""
    requires_system_checks = []

    def add_arguments(self, parser):
        parser.add_argument("operations", nargs="*", metavar="OPERATION")

    def handle(self, *args, **options):
        failed = False
        for line in options["operations"] or sys.stdin:
            try:
                answer = perform(json.loads(line))
            except Exception as error:  # the caller is another program: it gets every failure as an answer
                failed, answer = True, {"error": f"{type(error).__name__}: {error}"}
            # The server may be restarted before the next line comes.
            connections.close_all()
            print(json.dumps(answer, cls=DjangoJSONEncoder), flush=True)
        if failed:
            sys.exit(1)
