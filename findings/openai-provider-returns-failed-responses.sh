#!/usr/bin/env bash
# A task of Airflow's OpenAI provider succeeds with a failed or truncated response.
#
# Version:  apache-airflow-providers-openai 2.2.0 on apache-airflow 3.3.2 (PyPI), Python 3.11
# Guess:    OpenAIResponseOperator fails its task, or lets it retry, if the response's status is not "completed".
# Instead:  it logs a warning and returns the text that there is: half a text of an incomplete response, and the text of
#           a failed one, whose `error` is not shown. The task is a success, so no retry and no alert follows, and the
#           tasks after it work with half a text.
# Seen:     'Half of a' is returned for "incomplete" and for "failed"; nothing is raised.
# Avoid it: check the status of the response in a task of your own, or take an operator that does.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check \
    'apache-airflow==3.3.2' 'apache-airflow-providers-openai==2.2.0' 'openai==3.54.0'
cat >"$folder/check.py" <<'PYTHON'
import json
import os
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

ENDS = {
    "incomplete": {"incomplete_details": {"reason": "max_output_tokens"}, "error": None},
    "failed": {"incomplete_details": None, "error": {"code": "server_error", "message": "the model broke"}},
}
current = ""


class Server(BaseHTTPRequestHandler):
    def log_message(self, *_):
        pass

    def do_POST(self):
        self.rfile.read(int(self.headers["Content-Length"]))
        part = {"type": "output_text", "text": "Half of a", "annotations": []}
        message = {"type": "message", "id": "msg_1", "role": "assistant", "status": "incomplete", "content": [part]}
        whole = {"id": "resp_1", "object": "response", "created_at": 1, "model": "m", "status": current,
                 "output": [message], "tools": [], "tool_choice": "auto", "parallel_tool_calls": True} | ENDS[current]
        body = json.dumps(whole).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


server = ThreadingHTTPServer(("127.0.0.1", 0), Server)
threading.Thread(target=server.serve_forever, daemon=True).start()
connection = {"conn_type": "openai", "host": f"http://127.0.0.1:{server.server_port}", "password": "none"}
os.environ["AIRFLOW_CONN_OPENAI_DEFAULT"] = json.dumps(connection)

from airflow.providers.openai.operators.openai import OpenAIResponseOperator  # noqa: E402


class TaskInstance:
    def xcom_push(self, key, value):
        pass


seen = {}
for current in ENDS:
    task = OpenAIResponseOperator(task_id="ask", conn_id="openai_default", model="m", input_text="Hi")
    seen[current] = task.execute({"ti": TaskInstance()})
    print(f"{current}: the task returns {seen[current]!r}")
assert seen == dict.fromkeys(ENDS, "Half of a"), seen
PYTHON
export AIRFLOW_HOME="$folder/airflow" AIRFLOW__CORE__LOAD_EXAMPLES=False AIRFLOW__LOGGING__LOGGING_LEVEL=ERROR
timeout 120 "$folder/venv/bin/python" "$folder/check.py"
