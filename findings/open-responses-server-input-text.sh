#!/usr/bin/env bash
# open-responses-server sends a text `input` letter by letter, and ends truncated streams with a text of its own.
#
# Version:  open-responses-server 0.4.1 (PyPI), Python 3.11, over a chat-completions server
# Guess:    `"input": "Hi you"` becomes one user message. A stream that the model's server ended for length repeats its
#           text in `response.completed`. Without `stream` there is one JSON response.
# Instead:  a text becomes one message for each character, so that the model reads "H", "i", " ", ...; a list of items
#           is passed on as it should be. On any `finish_reason` but "stop" the final response is completed and holds
#           only the first piece of the text, or the constant "(No update)" where that piece was empty, as it is with
#           most servers. The rest was in the deltas only. Without `"stream": true` the body is `null`.
# Seen:     6 messages for "Hi you", 1 for a list with one item; deltas "Half of it", final texts "(No update)" and
#           "Half"; body null.
# Avoid it: send `input` as a list, always stream, and compare the deltas with the final text.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check 'open-responses-server==0.4.1'
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
        chunk = {"id": "chat_1", "object": "chat.completion.chunk", "created": 1, "model": "m"}
        begins = ["", "Half"] if len(asked[-1]["messages"]) > 1 else ["Half"]  # as most servers do, and without
        deltas = [{"role": "assistant", "content": begins[0]}, *({"content": piece} for piece in (*begins[1:], " of it"))]
        pieces = [*((delta, None) for delta in deltas), ({}, "length")]
        chunks = [chunk | {"choices": [{"index": 0, "delta": delta, "finish_reason": reason}]} for delta, reason in pieces]
        lines = "".join(f"data: {json.dumps(one)}\n\n" for one in chunks)
        self.send(f"{lines}data: [DONE]\n\n".encode(), "text/event-stream")


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def post(**fields):
    request = urllib.request.Request(
        f"{bridge}/responses", json.dumps({"model": "m"} | fields).encode(), {"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=30) as answer:
        return answer.read().decode()


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
bridge = f"http://127.0.0.1:{port}"
environment = os.environ | {
    "OPENAI_BASE_URL_INTERNAL": f"http://127.0.0.1:{upstream.server_port}",
    "OPENAI_API_KEY": "no-key",
    "MCP_SERVERS_CONFIG_PATH": str(folder / "none.json"),
}
app = "open_responses_server.server_entrypoint:app"
command = [folder / "venv/bin/uvicorn", app, "--host", "127.0.0.1", "--port", str(port)]
with (folder / "log.txt").open("wb") as log:
    server = subprocess.Popen(command, stdout=log, stderr=log, env=environment, cwd=folder)
try:
    until = time.monotonic() + 60
    while not is_up():
        assert server.poll() is None and time.monotonic() < until, (folder / "log.txt").read_text()[-2000:]
        time.sleep(0.1)
    streams = [post(input="Hi you", stream=True)]
    streams.append(post(input=[{"type": "message", "role": "user", "content": "Hi you"}], stream=True))
    unstreamed = post(input=[{"type": "message", "role": "user", "content": "Hi you"}])
finally:
    server.terminate()
    server.wait(30)
texts = [[message["content"] for message in request["messages"]] for request in asked]
print(f"messages for a text: {texts[0]}; for a list with one item: {texts[1]}")
ends = []
for stream in streams:
    events = [json.loads(line[6:]) for line in stream.splitlines() if line.startswith("data: {")]
    deltas = "".join(event.get("delta", "") for event in events)
    final = events[-1]["response"]
    ends.append((deltas, final["status"], final["output"][0]["content"][0]["text"]))
    print("deltas {!r}; final response: status {}, text {!r}".format(*ends[-1]))
print(f"body without stream: {unstreamed}")
assert texts[0] == list("Hi you") and len(texts[1]) == 1, texts
assert ends == [("Half of it", "completed", "(No update)"), ("Half of it", "completed", "Half")], ends
assert unstreamed == "null", unstreamed
PYTHON
timeout 120 "$folder/venv/bin/python" "$folder/check.py" "$folder"
