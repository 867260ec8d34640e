"""usage: check.py SNIPPET: reads a list of requests and prints whether the snippet's verified() accepts each."""

import base64
import json
import runpy
import sys

verified = runpy.run_path(sys.argv[1])["verified"]
requests = json.load(sys.stdin)
print(json.dumps([verified(r["secrets"], r["headers"], base64.b64decode(r["body"])) for r in requests]))
