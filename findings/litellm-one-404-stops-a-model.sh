#!/usr/bin/env bash
# LiteLLM's proxy: one request that gets a 404 stops its model for everyone for five seconds, and a 500 is sent 3 times.
#
# Version:  litellm 1.108.7 with the extra `proxy` (PyPI), Python 3.11, a model with one deployment, default settings
# Guess:    a 404 that is the fault of one request (a `previous_response_id` that has expired) concerns that request. A
#           500 from the model's server reaches the client, which decides about another send.
# Instead:  the 404 puts the deployment in cooldown: for 5 s every request for that model is a 429 "No deployments
#           available", type `all_deployments_in_cooldown`, Retry-After 5, and is not sent on. A 500 is sent on 3 times
#           before the client hears of it; a client that resends once makes 6 sends, each of which may be billed.
# Seen:     404, then 429 for a valid request (0 sends upstream), then 200 after the wait; 500: 3 sends upstream.
# Avoid it: `router_settings: {disable_cooldowns: true, num_retries: 0}`.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check 'litellm[proxy]==1.108.7'
cat >"$folder/check.py" <<'PYTHON'
import json
import os
import secrets
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

MESSAGE = {"type": "message", "id": "msg_1", "role": "assistant", "status": "completed",
           "content": [{"type": "output_text", "text": "Hello", "annotations": []}]}
WHOLE = {"id": "resp_1", "object": "response", "created_at": 1, "model": "m", "status": "completed", "output": [MESSAGE],
         "tools": [], "tool_choice": "auto", "parallel_tool_calls": True,
         "usage": {"input_tokens": 1, "output_tokens": 1, "total_tokens": 2}}
KEY = f"sk-{secrets.token_hex(16)}"  # the proxy refuses to start without one
posts = []


class Upstream(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def do_POST(self):
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        status = 404 if asked.get("previous_response_id") else 500 if asked["model"] == "broken" else 200
        posts.append(status)
        body = json.dumps(WHOLE if status == 200 else {"error": {"message": "no", "code": None}}).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def send(**fields):
    """Return the status, the error's type, Retry-After and the number of sends upstream."""
    before = len(posts)
    body = json.dumps({"input": "Hi"} | fields).encode()
    headers = {"Authorization": f"Bearer {KEY}", "Content-Type": "application/json"}
    request = urllib.request.Request(f"{proxy}/v1/responses", body, headers)
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            return answer.status, None, None, len(posts) - before
    except urllib.error.HTTPError as error:
        kind = json.load(error)["error"]["type"]
        return error.code, kind, error.headers.get("Retry-After"), len(posts) - before


def is_up():
    try:
        with urllib.request.urlopen(f"{proxy}/health/liveliness", timeout=5):
            return True
    except OSError:
        return False


upstream = ThreadingHTTPServer(("127.0.0.1", 0), Upstream)
threading.Thread(target=upstream.serve_forever, daemon=True).start()
folder = Path(sys.argv[1])
base = f"http://127.0.0.1:{upstream.server_port}/v1"
models = [{"model_name": name, "litellm_params": {"model": f"openai/{name}", "api_base": base, "api_key": "no-key"}}
          for name in ("small", "broken")]
(folder / "config.yaml").write_text(json.dumps({"model_list": models}))  # JSON is YAML
port = free_port()
proxy = f"http://127.0.0.1:{port}"
command = [folder / "venv/bin/litellm", "--config", folder / "config.yaml", "--host", "127.0.0.1", "--port", str(port)]
environment = os.environ | {"LITELLM_MASTER_KEY": KEY, "LITELLM_LOCAL_MODEL_COST_MAP": "True", "HOME": str(folder)}
with (folder / "log").open("wb") as log:
    server = subprocess.Popen(command, stdout=log, stderr=log, env=environment, cwd=folder)
try:
    until = time.monotonic() + 120
    while not is_up():
        assert server.poll() is None and time.monotonic() < until, (folder / "log").read_text()[-2000:]
        time.sleep(0.2)
    seen = [send(model="small"), send(model="small", previous_response_id="resp_0"), send(model="small")]
    time.sleep(5.5)
    seen += [send(model="small"), send(model="broken")]
finally:
    server.terminate()
    server.wait(30)
for name, found in zip(("a request", "one with a 404", "the next", "5.5 s later", "one with a 500"), seen):
    print(f"{name}: status {found[0]}, type {found[1]}, Retry-After {found[2]}, sends upstream {found[3]}")
assert [found[0] for found in seen] == [200, 404, 429, 200, 500], seen
assert [found[3] for found in seen] == [1, 1, 0, 1, 3], seen
assert seen[2][1:3] == ("all_deployments_in_cooldown", "5"), seen
PYTHON
timeout 300 "$folder/venv/bin/python" "$folder/check.py" "$folder"
