"""Reads a list of requests and prints what the published package signs them with."""

import base64
import json
import sys
from datetime import datetime, timezone

from standardwebhooks import Webhook

print(json.dumps([
    Webhook(r["secrets"][0]).sign(
        r["headers"]["webhook-id"],
        datetime.fromtimestamp(int(r["headers"]["webhook-timestamp"]), tz=timezone.utc),
        base64.b64decode(r["body"]).decode(),
    )
    for r in json.load(sys.stdin)
]))
