#!/usr/bin/env bash
# codex-relay calls truncated and filtered responses completed, and drops `text.format` and `tool_choice`.
#
# Version:  codex-relay 0.5.8 (PyPI), over a chat-completions server
# Guess:    `finish_reason` "length" and "content_filter" of the model's server become `status: incomplete` with
#           `incomplete_details`; a JSON schema and a required tool call reach the model's server, or are refused.
# Instead:  streamed, the response is completed and has no `incomplete_details`; unstreamed it has no `status` at all.
#           The schema and the tool choice are left out of the request to the model's server, and the client gets a 200.
# Seen:     status "completed" (streamed) and none (unstreamed) for both reasons; neither field upstream, `tools` is.
# Avoid it: compare `output_tokens` with the requested maximum; validate the JSON of the response.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check 'codex-relay==0.5.8'
cat >"$folder/check.py" <<'PYTHON'
import json
import os
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

asked = []
BASE = {"id": "chat_1", "created": 1, "model": "m"}
USAGE = {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2}


class Chat(BaseHTTPRequestHandler):
    def log_message(self, *_):
        pass

    def send(self, body, kind):
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_GET(self):
        self.send(b'{"object": "list", "data": []}', "application/json")

    def do_POST(self):
        asked.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
        reason = asked[-1]["messages"][-1]["content"]
        if not asked[-1].get("stream"):
            choice = {"index": 0, "message": {"role": "assistant", "content": "Half"}, "finish_reason": reason}
            whole = BASE | {"object": "chat.completion", "choices": [choice], "usage": USAGE}
            self.send(json.dumps(whole).encode(), "application/json")
            return
        pieces = [({"role": "assistant", "content": "Half"}, None), ({}, reason)]
        chunks = [[{"index": 0, "delta": delta, "finish_reason": end}] for delta, end in pieces]
        chunk = BASE | {"object": "chat.completion.chunk"}
        lines = "".join(f"data: {json.dumps(chunk | {'choices': choices})}\n\n" for choices in chunks)
        self.send(f"{lines}data: [DONE]\n\n".encode(), "text/event-stream")


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def post(**fields):
    body = json.dumps({"model": "m"} | fields).encode()
    request = urllib.request.Request(f"{relay}/v1/responses", body, {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=30) as answer:
        text = answer.read().decode()
    if not fields.get("stream"):
        return json.loads(text)
    events = [json.loads(line[6:]) for line in text.splitlines() if line.startswith("data: {")]
    return events[-1]["response"]


def is_up():
    try:
        with socket.create_connection(("127.0.0.1", port), 5):
            return True
    except OSError:
        return False


upstream = ThreadingHTTPServer(("127.0.0.1", 0), Chat)
threading.Thread(target=upstream.serve_forever, daemon=True).start()
folder = Path(sys.argv[1])
port = free_port()
relay = f"http://127.0.0.1:{port}"
command = [folder / "venv/bin/codex-relay", "--port", str(port), "--api-key", "no-key", "--upstream",
           f"http://127.0.0.1:{upstream.server_port}/v1"]
with (folder / "log.txt").open("wb") as log:
    server = subprocess.Popen(command, stdout=log, stderr=log, env=os.environ | {"HOME": str(folder)}, cwd=folder)
try:
    until = time.monotonic() + 60
    while not is_up():
        assert server.poll() is None and time.monotonic() < until, (folder / "log.txt").read_text()[-2000:]
        time.sleep(0.1)
    seen = {}
    for reason in ("length", "content_filter"):
        for stream in (True, False):
            found = post(input=reason, stream=stream)
            seen[reason, stream] = found.get("status"), found.get("incomplete_details")
    schema = {"type": "object", "properties": {}, "required": [], "additionalProperties": False}
    tool = {"type": "function", "name": "look_up", "parameters": schema, "strict": True}
    text = {"format": {"type": "json_schema", "name": "row", "schema": schema, "strict": True}}
    post(input="stop", stream=False, text=text, tools=[tool], tool_choice="required")
finally:
    server.terminate()
    server.wait(30)
for (reason, stream), (status, details) in seen.items():
    print(f"finish_reason {reason}, stream {stream}: status {status}, incomplete_details {details}")
print(f"fields that reached the model's server: {sorted(asked[-1])}")
for reason in ("length", "content_filter"):
    assert seen[reason, True] == ("completed", None), seen
    assert seen[reason, False] == (None, None), seen
assert "tools" in asked[-1] and not {"tool_choice", "response_format"} & asked[-1].keys(), asked[-1]
PYTHON
timeout 120 "$folder/venv/bin/python" "$folder/check.py" "$folder"
