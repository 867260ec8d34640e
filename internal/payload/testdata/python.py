"""
Capture what Python 3.12 and the plugin 22.0.0 make of values: the table of non-printable characters and cases for the tests.

usage: python.py table > ../printable.txt
       python.py cases [COUNT [SEED]] > python_cases.jsonl

Needs Python 3.12 with openedx-webhooks==22.0.0; schema/update shows how to have that.
"""

import json
import math
import random
import struct
import sys
import textwrap

import attr


def table():
    """Print printable.txt."""
    edges = []
    for code in range(0x80, 0x110001):
        printable = code == 0x110000 or chr(code).isprintable()
        if printable == (len(edges) % 2 == 1):
            edges.append(f"{code:x}")
    print("\n".join(textwrap.wrap(" ".join(edges), 100)))


KEYS = [
    "a", "b", "c", "a_b", "b_c", "a_b_c", "", "_", "_private", "__x", "id", "name", "naïve", "ключ", "key with space", "k&=+%/", "漢字",
    "password", "Password", "PASSWORD1", "password2", "password3", "old_password", "new_password", "token", "Token", "tokens",
    "id_token", "access_token", "refresh_token", "client_secret", "authorization", "Authorization", "cookie", "Cookies",
    "csrfmiddlewaretoken", "csrfmiddlewareto\u212aen", "to\u212aen", "COO\u212aIE", "toke\u0274", "pa\u017f\u017fword", "\u0130d_token",
    "course_id", "course", "quote'", 'quote"', "both'\"", "new\nline", "\U0001f393",
]
ALPHABETS = [
    "abcdefghijklmnopqrstuvwxyz ABC 0123456789",
    " \t\n\r\f\b\v\0\x01\x1b\x1f\x7f\x80\x85\x9f\xa0\xad",
    "'\"\\/<>&=+%#?;:,.~_-!*()[]{}@$^`|",
    "éüñßÆøÅçΩЖשלום漢字仮名한국어\u200b\u200d\u2028\u2029\ufeff\ufffd\ufffe\uffff\u0378\u3000\u2000\ue000\u0301",
    "\U0001f600\U0001f393\U0001f468\U00010000\U0001d11e\U000e0001\U000f0000\U0010fffd\U0010ffff\U0003fffe\U00020000",
]


def text(rng):
    kind = rng.random()
    if kind < 0.1:
        return "".join(c for c in (chr(rng.randrange(0x110000)) for _ in range(rng.randrange(12))) if not 0xD800 <= ord(c) <= 0xDFFF)
    alphabet = "".join(ALPHABETS) if kind < 0.4 else rng.choice(ALPHABETS)
    return "".join(rng.choice(alphabet) for _ in range(rng.randrange(20)))


def number(rng):
    kind = rng.randrange(9)
    if kind == 0:
        return struct.unpack("<d", rng.randbytes(8))[0]
    if kind == 1:
        return rng.choice([0.0, -0.0, 1.0, 0.1, 1e16, 9999999999999998.0, 1e15, 123456789012345680.0, 1e-4, 9.999999999999999e-05, 1e-7, 5e-324,
                           1.7976931348623157e308, math.nan, math.inf, -math.inf, 0.30000000000000004, 1e22, 1e21, -1e16, 2.5, 100.0, 1e100])
    if kind == 2:
        return rng.uniform(-1, 1) * 10.0 ** rng.randrange(-20, 25)
    if kind == 3:
        return float(rng.randrange(-10**17, 10**17))
    if kind == 4:
        return struct.unpack("<f", rng.randbytes(4))[0]
    if kind == 5:
        return rng.randrange(-(2**64), 2**64)
    if kind == 6:
        return rng.choice([2**63 - 1, 2**63, -(2**63), -(2**63) - 1, 10**25, -(10**30), 0, -1, 2**53 + 1])
    return rng.randrange(-1000, 1000)


def value(rng, depth):
    kind = rng.random()
    if depth > 0 and kind < 0.22:
        return [value(rng, depth - 1) for _ in range(rng.randrange(5))]
    if depth > 0 and kind < 0.5:
        return mapping(rng, depth - 1)
    if kind < 0.56:
        return None
    if kind < 0.62:
        return rng.random() < 0.5
    if kind < 0.65:
        return rng.randbytes(rng.randrange(8)) if rng.random() < 0.5 else text(rng).encode()
    if kind < 0.8:
        return number(rng)
    return text(rng)


def mapping(rng, depth):
    keys = [rng.choice(KEYS) if rng.random() < 0.8 else text(rng) for _ in range(rng.randrange(7))]
    return {key: value(rng, depth) for key in keys}


def nested(rng):
    """A value of up to 20 levels, for the depth limit."""
    result = rng.choice([1, "leaf", None, [], {}, {"token": 1}, b"x"])
    for _ in range(rng.randrange(13, 20)):
        result = [result] if rng.random() < 0.5 else {rng.choice(["a", "b", ""]): result, "c": "beside"}
    return result


def tagged(value):
    """Spell a value so that nothing is lost in JSON."""
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, int):
        return ["int", str(value)]
    if isinstance(value, float):
        return ["float", struct.pack(">d", value).hex()]
    if isinstance(value, str):
        return ["str", value]
    if isinstance(value, bytes):
        return ["bytes", value.hex()]
    if isinstance(value, list):
        return ["list", [tagged(item) for item in value]]
    return ["dict", [[key, tagged(item)] for key, item in value.items()]]


def cases(count, seed):
    """Print one case a line."""
    from django.conf import settings

    settings.configure()
    from openedx_webhooks.utils import flatten_dict, object_serializer, redact_sensitive_fields, value_serializer
    from requests.models import RequestEncodingMixin

    def form(payload):
        encoded = RequestEncodingMixin._encode_params(flatten_dict(payload))
        return encoded

    rng = random.Random(seed)
    for _ in range(count):
        kind = rng.random()
        data = mapping(rng, 4) if kind < 0.85 else {"deep": nested(rng), "_kept": nested(rng)}
        # The data class of an event: its fields are identifiers.
        fields = {key: item for key, item in data.items() if key.isidentifier() and key.isascii()}
        # auto_attribs off, keyword arguments lose leading underscores: set the fields one by one.
        cls = attr.make_class("Data", {key: attr.ib(init=False) for key in fields})
        event = cls()
        for key, item in fields.items():
            setattr(event, key, item)
        sent = redact_sensitive_fields({"module.Data": attr.asdict(event, value_serializer=value_serializer, retain_collection_types=True)})
        case = {
            "value": tagged(data),
            "json": json.dumps(data, default=str),
            "form": form(data),
            "redacted": json.dumps(redact_sensitive_fields(object_serializer(data)), default=str),
            "fields": list(fields),
            "event": json.dumps(sent, default=str),
            "event_form": form(sent),
        }
        print(json.dumps(case, ensure_ascii=False, separators=(",", ":")))


if sys.argv[1] == "table":
    table()
else:
    cases(int(sys.argv[2]) if len(sys.argv) > 2 else 300, int(sys.argv[3]) if len(sys.argv) > 3 else 1)
