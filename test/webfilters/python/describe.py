"""Values as text that tells all that a receiver of a filter's outcome could see of them: types, order of keys, what is saved."""
from django.db import models
from django.http import HttpResponse, QueryDict
from opaque_keys import OpaqueKey

DEEP = 40


def describe(value, depth=0):
    """The value as one line of ASCII."""
    if depth > DEEP:
        return "..."
    name = type(value).__name__
    if value is None or type(value) in (bool, int, float):
        return repr(value)
    if isinstance(value, (str, bytes)):
        return ascii(value) if type(value) in (str, bytes) else f"{name}({ascii(str(value))})"
    if isinstance(value, OpaqueKey):
        return f"{name}({ascii(str(value))})"
    if isinstance(value, QueryDict):
        return f"QueryDict({describe(dict(value.lists()), depth + 1)})"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{describe(k, depth + 1)}: {describe(v, depth + 1)}" for k, v in value.items()) + "}"
    if isinstance(value, (list, tuple)):
        return name + "[" + ", ".join(describe(item, depth + 1) for item in value) + "]"
    if isinstance(value, (set, frozenset)):
        return name + "{" + ", ".join(sorted(describe(item, depth + 1) for item in value)) + "}"
    if isinstance(value, models.QuerySet):
        return f"QuerySet({value.query}: {list(value.values_list('pk', flat=True))})"
    if isinstance(value, models.Model):
        return _model(value, depth)
    if isinstance(value, HttpResponse):
        # Equal requests make equal responses, whatever follows in the class; these are the parts that a browser gets.
        return f"{name}({value.status_code} {value.reason_phrase} {sorted(value.items())} {value.content!r})"
    if hasattr(value, "__dict__"):
        return f"{name}({describe(dict(vars(value)), depth + 1)})"
    return f"{name}({ascii(str(value))})"


def _model(instance, depth, within=()):
    """A row as it is in memory, and as it is in the database, with the rows that it has in memory."""
    kind = type(instance)
    fields = [field.attname for field in instance._meta.concrete_fields]

    def values(row):
        return describe({name: getattr(row, name) for name in fields}, depth + 1)

    saved = kind.objects.filter(pk=instance.pk).first()
    text = f"{kind.__name__}({values(instance)}; saved: {values(saved) if saved else 'no'}"
    for name, other in instance._state.fields_cache.items():
        if type(other) not in within:
            text += f"; {name}: {_model(other, depth + 1, (*within, kind))}"
    return text + ")"


def describe_exception(error):
    """Class, message and all attributes of an exception."""
    attributes = dict(vars(error))
    return {
        "class": f"{type(error).__module__}.{type(error).__qualname__}",
        "message": ascii(attributes.pop("message", None) if "message" in attributes else str(error)),
        "attributes": {name: describe(value) for name, value in sorted(attributes.items())},
    }
