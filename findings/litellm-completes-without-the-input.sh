#!/usr/bin/env bash
# LiteLLM's proxy: a completed response to a request of which the model got a part only.
#
# Version:  litellm 1.108.7 with the extra `proxy` (PyPI), Python 3.11, no database, a model with chat completions only
# Guess:    chat completions have no stored responses, so `previous_response_id` is refused, or the proxy sends the turns
#           before. They have sounds, so `input_audio` is passed on; a video is refused. The refusal of a model becomes
#           a part `refusal`.
# Instead:  all are 200 and completed. The id of the proxy's own response is ignored: the model gets the new turn
#           alone. Parts `input_audio` and `input_video` are left out, without a message. A refusal becomes a response
#           without text: streamed an empty one, unstreamed `output: []`.
# Seen:     the model got 1 message of 3; the text of a message without its sound and its video; no refusal in either.
# Avoid it: send the turns before in `input`. Do not send sounds or videos. Treat a response without text as a failure.
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
import urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

KEY = f"sk-{secrets.token_hex(16)}"  # the proxy refuses to start without one
COMMON = {"id": "chatcmpl-1", "created": 1, "model": "small"}
received = []


class Upstream(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def do_POST(self):
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        received.append(asked["messages"])
        said = {"refusal": "I will not."} if "Refuse" in json.dumps(asked["messages"]) else {"content": "Hello, Bo."}
        message = {"role": "assistant", "content": None} | said
        if asked.get("stream"):
            chunks = [(message, None), ({}, "stop")]
            choices = [[{"index": 0, "delta": delta, "finish_reason": reason}] for delta, reason in chunks]
            lines = [json.dumps(COMMON | {"object": "chat.completion.chunk", "choices": choice}) for choice in choices]
            kind, body = "text/event-stream", "".join(f"data: {line}\n\n" for line in [*lines, "[DONE]"])
        else:
            choice = {"index": 0, "message": message, "finish_reason": "stop"}
            kind, body = "application/json", json.dumps(COMMON | {"object": "chat.completion", "choices": [choice]})
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body.encode())


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def is_up():
    try:
        with urllib.request.urlopen(f"{proxy}/health/liveliness", timeout=5):
            return True
    except OSError:
        return False


def send(given, **fields):
    """Return the final response."""
    body = json.dumps({"model": "small", "input": given} | fields).encode()
    headers = {"Authorization": f"Bearer {KEY}", "Content-Type": "application/json"}
    with urllib.request.urlopen(urllib.request.Request(f"{proxy}/v1/responses", body, headers), timeout=60) as answer:
        text = answer.read().decode()
    if not fields.get("stream"):
        return json.loads(text)
    events = [json.loads(line[6:]) for line in text.splitlines() if line.startswith("data: {")]
    return next(event["response"] for event in events if event["type"] == "response.completed")


def parts(*given):
    return [{"type": "message", "role": "user", "content": [{"type": "input_text", "text": "What is it?"}, *given]}]


upstream = ThreadingHTTPServer(("127.0.0.1", 0), Upstream)
threading.Thread(target=upstream.serve_forever, daemon=True).start()
folder = Path(sys.argv[1])
params = {"model": "openai/chat_completions/small", "api_base": f"http://127.0.0.1:{upstream.server_port}/v1",
          "api_key": "no-key"}
(folder / "config.yaml").write_text(json.dumps({"model_list": [{"model_name": "small", "litellm_params": params}]}))
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
    first = send("I am Bo.")
    statuses = [send("Who am I?", previous_response_id=first["id"])["status"]]
    sound = {"type": "input_audio", "input_audio": {"data": "UklGRg==", "format": "wav"}}
    video = {"type": "input_video", "video_url": "data:video/mp4;base64,AAAA"}
    statuses += [send(parts(part))["status"] for part in (sound, video)]
    refused = [send("Refuse this.", stream=stream) for stream in (True, False)]
finally:
    server.terminate()
    server.wait(30)
_, continued, with_sound, with_video, *_ = received
print("statuses:", statuses, [response["status"] for response in refused])
print("continued by its id, the model got:", continued)
print("with a sound:", with_sound)
print("with a video:", with_video)
print("refused:", [response["output"] for response in refused])
assert statuses == ["completed"] * 3
assert continued == [{"role": "user", "content": "Who am I?"}], continued
for messages in (with_sound, with_video):
    assert messages == [{"role": "user", "content": [{"type": "text", "text": "What is it?"}]}], messages
assert all(response["status"] == "completed" and "I will not" not in json.dumps(response) for response in refused)
assert refused[1]["output"] == [], refused[1]
PYTHON
timeout 300 "$folder/venv/bin/python" "$folder/check.py" "$folder"
