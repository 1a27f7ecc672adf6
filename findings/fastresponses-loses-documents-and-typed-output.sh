#!/usr/bin/env bash
# fastresponses with Pydantic AI: documents arrive garbled or not at all, and typed output is lost; all are completed.
#
# Version:  fastresponses 0.1.0, pydantic-ai-slim 2.68.0 with the extra `openai` (PyPI), Python 3.11
# Guess:    `file_data` is a data URL, as in OpenAI's documentation: its content reaches the model, or the request is
#           refused. A response to a request with a JSON schema has JSON as its text: so the README.
# Instead:  the whole data URL is decoded as base64, without a check: "data", "application/pdf" and "base64" become
#           bytes before the content, which is shifted by some bits. If the length does not fit, the document is left
#           out. With an agent's default profile, the model returns typed output by a call, which nothing passes on: the
#           response has `output: []`.
# Seen:     the model got "dataapplication/pdfbase64JVBE..." as the base64 of a PDF, and no CSV; 200, completed. Typed:
#           completed, 7 output tokens, no output.
# Avoid it: send the base64 alone. Give the agent's model a profile with `default_structured_output_mode="native"`.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check 'fastresponses==0.1.0' \
    'pydantic-ai-slim[openai]==2.68.0'
cat >"$folder/agent.py" <<'PYTHON'
import os

from pydantic_ai import Agent
from pydantic_ai.models.openai import OpenAIChatModel
from pydantic_ai.providers.openai import OpenAIProvider

provider = OpenAIProvider(base_url=os.environ["MODEL_URL"], api_key="none")
agent = Agent(OpenAIChatModel("small", provider=provider))
PYTHON
cat >"$folder/check.py" <<'PYTHON'
import base64
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

PDF = b"%PDF-1.7\n1 0 obj\n<<>>\nendobj\n%%EOF\n"
SCHEMA = {"type": "object", "properties": {"topic": {"type": "string"}}, "required": ["topic"],
          "additionalProperties": False}
COMMON = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": "small"}
received = []


class Upstream(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def do_POST(self):
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        received.append(asked)
        delta, reason = {"role": "assistant", "content": "Hello"}, "stop"
        if asked.get("tools"):  # as a model does if it must call a function
            function = {"name": asked["tools"][0]["function"]["name"], "arguments": '{"topic": "good"}'}
            calls = [{"index": 0, "id": "call_1", "type": "function", "function": function}]
            delta, reason = {"role": "assistant", "content": None, "tool_calls": calls}, "tool_calls"
        usage = {"prompt_tokens": 11, "completion_tokens": 7, "total_tokens": 18}
        chunks = [{"choices": [{"index": 0, "delta": delta, "finish_reason": None}]},
                  {"choices": [{"index": 0, "delta": {}, "finish_reason": reason}]},
                  {"choices": [], "usage": usage}]
        lines = [*(json.dumps(COMMON | chunk) for chunk in chunks), "[DONE]"]
        body = "".join(f"data: {line}\n\n" for line in lines).encode()
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


def send(**fields):
    body = json.dumps({"model": "small"} | fields).encode()
    request = urllib.request.Request(f"{base}/responses", body, {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=60) as answer:
        return json.load(answer)


def with_file(name, data):
    parts = [{"type": "input_text", "text": "What is it?"}, {"type": "input_file", "filename": name, "file_data": data}]
    return [{"type": "message", "role": "user", "content": parts}]


def files():
    """Return what the model got as base64 of files in the last request."""
    parts = [part for part in received[-1]["messages"][0]["content"] if part["type"] == "file"]
    return [part["file"]["file_data"].partition(",")[2] for part in parts]


upstream = ThreadingHTTPServer(("127.0.0.1", 0), Upstream)
threading.Thread(target=upstream.serve_forever, daemon=True).start()
folder = Path(sys.argv[1])
with socket.socket() as listener:
    listener.bind(("127.0.0.1", 0))
    port = listener.getsockname()[1]
base = f"http://127.0.0.1:{port}/v1"
environment = os.environ | {"MODEL_URL": f"http://127.0.0.1:{upstream.server_port}/v1"}
with (folder / "log").open("wb") as log:
    command = [folder / "venv/bin/fastresponses", "serve", "agent.py:agent", "--port", str(port)]
    server = subprocess.Popen(command, stdout=log, stderr=log, env=environment, cwd=folder)
try:
    until = time.monotonic() + 60
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
            break
        except OSError:
            assert server.poll() is None and time.monotonic() < until, (folder / "log").read_text()[-2000:]
            time.sleep(0.1)
    whole = base64.b64encode(PDF).decode()
    seen = []
    for name, data in (("a.pdf", f"data:application/pdf;base64,{whole}"), ("a.csv", "data:text/csv;base64,YSxiCjEsMgo="),
                       ("a.pdf", whole)):
        seen.append((send(input=with_file(name, data))["status"], files()))
    typed = send(input="Is it good?", text={"format": {"type": "json_schema", "name": "x", "schema": SCHEMA}})
finally:
    server.terminate()
    server.wait(30)
for name, found in zip(("a PDF as a data URL", "a CSV as a data URL", "the PDF as base64"), seen):
    print(f"{name}: {found[0]}, the model got {found[1]}")
print("typed:", typed["status"], "output", typed["output"], "output tokens", typed["usage"]["output_tokens"])
assert [found[0] for found in seen] == ["completed"] * 3, seen
(garbled,), left_out, (as_sent,) = (found[1] for found in seen)
assert garbled.startswith("dataapplication/pdfbase64"), garbled
assert PDF not in base64.b64decode(garbled + "=" * (-len(garbled) % 4))
assert left_out == [], left_out
assert as_sent == whole, as_sent
assert (typed["status"], typed["output"], typed["usage"]["output_tokens"]) == ("completed", [], 7), typed
PYTHON
timeout 120 "$folder/venv/bin/python" "$folder/check.py" "$folder"
