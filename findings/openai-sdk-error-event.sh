#!/usr/bin/env bash
# The OpenAI SDK raises an error event of one shape, passes on that of the other, and takes a broken-off stream as whole.
#
# Version:  openai 3.57.0 (PyPI), Python 3.11
# Guess:    a stream that fails raises: `for event in client.responses.create(stream=True)` ends well only if the
#           response did.
# Instead:  `{"type": "error", "error": {...}}` raises APIError. The flat event that the API documents, with `code` and
#           `message` beside `type`, is yielded like text. So is `response.failed`. A stream that ends without any
#           terminal event (a proxy's time-out, a killed worker) just ends. Whoever collects the deltas keeps half a
#           text and no exception.
# Seen:     nested: APIError; flat: 2 events, the last of type "error"; failed: 2 events; broken off: 1 event.
# Source:   the SDK decides by the key `error` in the event's data (openai/_streaming.py).
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check 'openai==3.57.0'
cat >"$folder/check.py" <<'PYTHON'
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import openai

DELTA = {"type": "response.output_text.delta", "item_id": "msg_1", "output_index": 0, "content_index": 0,
         "delta": "Half of a", "logprobs": []}
FAILURE = {"code": "server_error", "message": "the model broke"}
STREAMS = {
    "nested": [DELTA, {"type": "error", "error": FAILURE}],
    "flat": [DELTA, {"type": "error", **FAILURE, "param": None}],
    "failed": [DELTA, {"type": "response.failed", "response": {"id": "resp_1", "status": "failed", "error": FAILURE}}],
    "broken off": [DELTA],
}
current = "nested"


class Server(BaseHTTPRequestHandler):
    def log_message(self, *_):
        pass

    def do_POST(self):
        self.rfile.read(int(self.headers["Content-Length"]))
        events = [event | {"sequence_number": number} for number, event in enumerate(STREAMS[current])]
        body = "".join(f"event: {event['type']}\ndata: {json.dumps(event)}\n\n" for event in events).encode()
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


server = ThreadingHTTPServer(("127.0.0.1", 0), Server)
threading.Thread(target=server.serve_forever, daemon=True).start()
client = openai.OpenAI(base_url=f"http://127.0.0.1:{server.server_port}", api_key="no-key", max_retries=0)
seen = {}
for current in STREAMS:
    try:
        seen[current] = [event.type for event in client.responses.create(model="m", input="Hi", stream=True)]
    except openai.APIError as error:
        seen[current] = type(error).__name__
    print(f"{current}: {seen[current]}")
assert seen == {
    "nested": "APIError",
    "flat": [DELTA["type"], "error"],
    "failed": [DELTA["type"], "response.failed"],
    "broken off": [DELTA["type"]],
}
PYTHON
timeout 60 "$folder/venv/bin/python" "$folder/check.py"
