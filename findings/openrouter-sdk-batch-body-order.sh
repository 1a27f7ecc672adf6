#!/usr/bin/env bash
# The OpenRouter SDK writes a batch's `callback_url`, `completion_window` and `provider` after its `requests`.
#
# Version:  openrouter 1.3.84 (PyPI), Python 3.11
# Guess:    the vendor's SDK writes a body in the order that the vendor's documentation requires: the service parses it
#           as a stream, so other fields have to stand before `requests`, or a 400 follows.
# Instead:  the fields have the order of the SDK's model, whatever the order of the arguments: `endpoint` and `model`
#           stand before `requests`, the others behind it. The whole batch may be uploaded before it is refused.
# Seen:     ['endpoint', 'model', 'requests', 'callback_url', 'completion_window', 'provider']
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check 'openrouter==1.3.84'
cat >"$folder/check.py" <<'PYTHON'
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from openrouter import OpenRouter

bodies = []


class Server(BaseHTTPRequestHandler):
    def log_message(self, *_):
        pass

    def do_POST(self):
        bodies.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
        batch = {"id": "batch_1", "object": "batch", "endpoint": "/v1/responses", "model": "m", "status": "validating",
                 "completion_window": "24h", "created_at": 1, "finalized_at": None, "expires_at": None,
                 "provider": None, "request_counts": {"total": 1, "completed": 0, "failed": 0}, "usage": None,
                 "results": None, "error": None}
        body = json.dumps(batch).encode()
        self.send_response(202)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


server = ThreadingHTTPServer(("127.0.0.1", 0), Server)
threading.Thread(target=server.serve_forever, daemon=True).start()
with OpenRouter(server_url=f"http://127.0.0.1:{server.server_port}", api_key="no-key") as client:
    batch = client.batch.create_batches(
        callback_url="https://example.com/hook",
        completion_window="24h",
        provider={"only": ["example"]},
        endpoint="/v1/responses",
        model="m",
        requests=[{"custom_id": "row-1", "body": {"input": "Hi"}}],
    )
print(batch.status, list(bodies[0]))
assert list(bodies[0]) == ["endpoint", "model", "requests", "callback_url", "completion_window", "provider"]
PYTHON
timeout 60 "$folder/venv/bin/python" "$folder/check.py"
