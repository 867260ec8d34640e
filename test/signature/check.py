"""usage: check.py SNIPPET: reads a list of requests and prints for each whether the snippet's verified() accepts or refuses it, or fails."""

import base64
import json
import runpy
import sys

verified = runpy.run_path(sys.argv[1])["verified"]


def outcome(request):
    try:
        good = verified(request["secrets"], request["headers"], base64.b64decode(request["body"]))
    except Exception:
        return "failed"
    return "accepted" if good else "refused"


print(json.dumps([outcome(request) for request in json.load(sys.stdin)]))
