#!/usr/bin/env bash
# `output_text` of the OpenAI SDK glues a model's commentary to its answer; `parse()` of the same SDK leaves it out.
#
# Version:  openai 3.57.0 (PyPI), Python 3.11
# Guess:    where messages carry `phase`, `output_text` is the `final_answer`, as in `output_parsed`.
# Instead:  `output_text` joins the texts of all messages, of every phase, with nothing between them: a JSON answer
#           cannot be read any more. `responses.parse()` parses only the final answer; without phases, every message,
#           so that a sentence before the JSON raises ValidationError once the response is paid for.
# Seen:     output_text is 'Let me look.{"n": 4}', output_parsed is n=4; without phases parse() raises.
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
import pydantic


def message(number, phase, text):
    content = [{"type": "output_text", "text": text, "annotations": []}]
    return {"type": "message", "id": f"msg_{number}", "role": "assistant", "status": "completed", "phase": phase,
            "content": content}


output = [message(1, "commentary", "Let me look."), message(2, "final_answer", '{"n": 4}')]


class Server(BaseHTTPRequestHandler):
    def log_message(self, *_):
        pass

    def do_POST(self):
        self.rfile.read(int(self.headers["Content-Length"]))
        whole = {"id": "resp_1", "object": "response", "created_at": 1, "model": "m", "status": "completed",
                 "output": output, "tools": [], "tool_choice": "auto", "parallel_tool_calls": True}
        body = json.dumps(whole).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


class Count(pydantic.BaseModel):
    n: int


server = ThreadingHTTPServer(("127.0.0.1", 0), Server)
threading.Thread(target=server.serve_forever, daemon=True).start()
client = openai.OpenAI(base_url=f"http://127.0.0.1:{server.server_port}", api_key="no-key", max_retries=0)
text = client.responses.create(model="m", input="How many?").output_text
print(f"output_text: {text!r}")
assert text == 'Let me look.{"n": 4}'
parsed = client.responses.parse(model="m", input="How many?", text_format=Count).output_parsed
print(f"output_parsed: {parsed!r}")
assert parsed == Count(n=4)
for item in output:
    del item["phase"]
try:
    client.responses.parse(model="m", input="How many?", text_format=Count)
    raise AssertionError("parse() passed over a message without JSON")
except pydantic.ValidationError as error:
    print(f"parse() without phases: {type(error).__name__} ({error.errors()[0]['type']})")
PYTHON
timeout 60 "$folder/venv/bin/python" "$folder/check.py"
