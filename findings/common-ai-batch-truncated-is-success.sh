#!/usr/bin/env bash
# LLMBatchOperator of Airflow's common.ai provider counts truncated responses as successes.
#
# Version:  apache-airflow-providers-common-ai 1.0.0 on apache-airflow 3.3.2 and openai 3.57.0 (PyPI), Python 3.11
# Guess:    a response that was cut off at max_tokens (1024, unless it is set) is a row with an error, or at least stops
#           a task with fail_on_partial_error=True.
# Instead:  with OpenAI, its row has the status "success" and half of the text as its output, the manifest counts it as
#           succeeded with terminal_reason "succeeded", and fail_on_partial_error=True lets the task succeed. Only the
#           row's finish_reason, "length", shows it. A response that a content filter cut off is a success as well.
# Seen:     2 of 2 succeeded, terminal_reason "succeeded", outputs 'Half of a', finish_reasons "length" and
#           "content_filter"; nothing is raised.
# Avoid it: look at finish_reason in every row before you use its output.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check \
    'apache-airflow==3.3.2' 'apache-airflow-providers-common-ai==1.0.0' 'openai==3.57.0'
cat >"$folder/check.py" <<'PYTHON'
import json
import os
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import SimpleNamespace

REASONS = ["length", "content_filter"]
uploads = []


def result(custom_id, reason):
    choice = {"index": 0, "message": {"role": "assistant", "content": "Half of a"}, "finish_reason": reason}
    body = {"id": "chatcmpl-1", "object": "chat.completion", "model": "gpt-5", "choices": [choice],
            "usage": {"prompt_tokens": 5, "completion_tokens": 1024, "total_tokens": 1029}}
    return {"id": "r", "custom_id": custom_id, "response": {"status_code": 200, "body": body}, "error": None}


class Server(BaseHTTPRequestHandler):
    def log_message(self, *_):
        pass

    def respond(self, data):
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def batch(self):
        return {"id": "batch_1", "object": "batch", "endpoint": "/v1/chat/completions", "input_file_id": "file-1",
                "completion_window": "24h", "status": "completed", "created_at": 1, "output_file_id": "file-2",
                "request_counts": {"total": 2, "completed": 2, "failed": 0}}

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if self.path.endswith("/files"):
            uploads.extend(json.loads(line) for line in body.splitlines() if line.startswith(b"{"))
            uploaded = {"id": "file-1", "object": "file", "bytes": 1, "created_at": 1, "filename": "f",
                        "purpose": "batch", "status": "processed"}
            return self.respond(json.dumps(uploaded).encode())
        return self.respond(json.dumps(self.batch()).encode())

    def do_GET(self):
        if self.path.endswith("/content"):
            lines = [result(line["custom_id"], reason) for line, reason in zip(uploads, REASONS)]
            return self.respond("\n".join(map(json.dumps, lines)).encode())
        return self.respond(json.dumps(self.batch()).encode())


server = ThreadingHTTPServer(("127.0.0.1", 0), Server)
threading.Thread(target=server.serve_forever, daemon=True).start()
connection = {"conn_type": "pydanticai", "host": f"http://127.0.0.1:{server.server_port}/v1", "password": "none"}
os.environ["AIRFLOW_CONN_LLM"] = json.dumps(connection)

from airflow.providers.common.ai.operators.llm_batch import LLMBatchOperator  # noqa: E402
from airflow.sdk.bases.operator import ExecutorSafeguard  # noqa: E402

ExecutorSafeguard.test_mode = True  # the operator is run without a scheduler
ti = SimpleNamespace(dag_id="d", task_id="ask", run_id="r", map_index=-1, xcom_push=lambda key, value: None)
task = LLMBatchOperator(
    task_id="ask", llm_conn_id="llm", model_id="openai:gpt-5", requests=["Tell a story", "Tell another"],
    result_path=f"file://{sys.argv[1]}/results", fail_on_partial_error=True, deferrable=False,
)
manifest = task.execute({"ti": ti, "task_instance": ti})
with open(manifest["result_uri"].removeprefix("file://")) as lines:
    rows = [json.loads(line) for line in lines]
print("the task succeeds:", manifest["counts"], manifest["terminal_reason"])
for row in rows:
    print({name: row[name] for name in ("status", "output", "error", "finish_reason")})
assert (manifest["counts"]["succeeded"], manifest["terminal_reason"]) == (2, "succeeded"), manifest
assert {(row["status"], row["output"]) for row in rows} == {("success", "Half of a")}, rows
assert [row["finish_reason"] for row in rows] == REASONS, rows
PYTHON
export AIRFLOW_HOME="$folder/airflow" AIRFLOW__CORE__LOAD_EXAMPLES=False AIRFLOW__LOGGING__LOGGING_LEVEL=ERROR
timeout 120 "$folder/venv/bin/python" "$folder/check.py" "$folder"
