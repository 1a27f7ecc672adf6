#!/usr/bin/env bash
# The OpenRouter SDK sends a POST /responses that got a 5XX again and again, by default for up to an hour.
#
# Version:  openrouter 1.3.84 (PyPI), Python 3.11
# Guess:    no resend of a POST that costs money, or two or three, as the OpenAI SDK does (max_retries=2).
# Instead:  without a retry setting, a status from 500 is sent again after 0.5 s, 0.75 s, ... up to 60 s each, until
#           3,600 s have passed; errors of the connection too. There is no limit to the number of sends, a 502 after the
#           model ran is sent again as well, and a 429 is not. The call only looks slow: nothing is logged.
# Seen:     500 six times, then 200: the call succeeds after 7 POSTs; with a 429 there is 1 POST.
# Source:   the SDK's own default for createResponses is BackoffStrategy(500, 60000, 1.5, 3600000), for "5XX".
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check 'openrouter==1.3.84'
cat >"$folder/check.py" <<'PYTHON'
import json
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from openrouter import OpenRouter, errors

MESSAGE = {"type": "message", "id": "msg_1", "role": "assistant", "status": "completed",
           "content": [{"type": "output_text", "text": "Hello", "annotations": []}]}
WHOLE = dict.fromkeys(("error", "incomplete_details", "temperature", "top_p", "presence_penalty", "frequency_penalty",
                       "instructions", "metadata")) | {
    "id": "resp_1", "object": "response", "created_at": 1, "completed_at": 2, "model": "m", "status": "completed",
    "output": [MESSAGE], "tools": [], "tool_choice": "auto", "parallel_tool_calls": True}
answers, posts = [], []


class Server(BaseHTTPRequestHandler):
    def log_message(self, *_):
        pass

    def do_POST(self):
        self.rfile.read(int(self.headers["Content-Length"]))
        status = answers[len(posts)]
        posts.append(status)
        error = {"error": {"code": status, "message": "not now"}}
        body = json.dumps(WHOLE if status == 200 else error).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


server = ThreadingHTTPServer(("127.0.0.1", 0), Server)
threading.Thread(target=server.serve_forever, daemon=True).start()
with OpenRouter(server_url=f"http://127.0.0.1:{server.server_port}", api_key="no-key") as client:
    answers[:] = [500] * 6 + [200]
    began = time.monotonic()
    status = client.responses.send(model="m", input="Hi").status
    print(f"six times 500: {status} after {len(posts)} POSTs and {time.monotonic() - began:.0f} s")
    assert (status, posts) == ("completed", [500] * 6 + [200]), posts
    answers[:], posts[:] = [429, 200], []
    try:
        client.responses.send(model="m", input="Hi")
        raise AssertionError("the 429 was sent again")
    except errors.TooManyRequestsResponseError:
        print(f"429: raised after {len(posts)} POST")
        assert posts == [429], posts
PYTHON
timeout 120 "$folder/venv/bin/python" "$folder/check.py"
