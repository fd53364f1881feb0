#!/usr/bin/env python3
"""Orders, suspends, unsuspends or terminates a service as a panel does: by a signed hook.

    WHARF_PANEL_SECRET=whsec_… ./order.py http://127.0.0.1:8480 shop create 42 small '{"CPU Cores": "2"}'

The signature is that of Standard Webhooks: HMAC-SHA256 over `id.timestamp.body`. The host checks it before it parses
anything. `webhook-id` makes a repetition harmless: the same id gives the same operation. So keep id and body until you have
an answer, and send them again when the connection broke.
"""

import base64
import hashlib
import hmac
import json
import os
import sys
import time
import urllib.error
import urllib.request
import uuid


def signature(secret: str, message_id: str, timestamp: str, body: bytes) -> str:
    key = base64.b64decode(secret.removeprefix("whsec_"))
    payload = f"{message_id}.{timestamp}.".encode() + body
    return "v1," + base64.b64encode(hmac.new(key, payload, hashlib.sha256).digest()).decode()


def post(host: str, panel: str, verb: str, body: bytes, secret: str) -> tuple[int, str]:
    message_id = f"msg_{uuid.uuid4().hex}"
    for attempt in range(5):
        timestamp = str(int(time.time()))
        request = urllib.request.Request(
            f"{host}/hooks/{panel}/{verb}",
            data=body,
            headers={
                "content-type": "application/json",
                "webhook-id": message_id,
                "webhook-timestamp": timestamp,
                "webhook-signature": signature(secret, message_id, timestamp, body),
            },
        )
        try:
            with urllib.request.urlopen(request, timeout=10) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as refused:
            return refused.code, refused.read().decode()
        except OSError as broken:
            if attempt == 4:
                raise SystemExit(f"the host can't be reached: {broken}")
            time.sleep(2**attempt)
    raise AssertionError("unreachable")


def main() -> None:
    if len(sys.argv) not in (6, 7) or "WHARF_PANEL_SECRET" not in os.environ:
        raise SystemExit(__doc__)
    host, panel, verb, service, plan = sys.argv[1:6]
    options = json.loads(sys.argv[6]) if len(sys.argv) == 7 else {}
    # What WHMCS hands to a module's function, as far as an order needs it.
    body = {
        "serviceid": int(service),
        "userid": 1,
        "configoption1": plan,
        "configoptions": options,
        "clientsdetails": {"firstname": "Ada", "lastname": "Example", "email": "ada@example.com"},
    }
    status, text = post(host, panel, verb, json.dumps(body).encode(), os.environ["WHARF_PANEL_SECRET"])
    print(text)
    if status != 200:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
