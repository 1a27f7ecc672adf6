#!/usr/bin/env bash
# Airflow: a trigger's `on_kill` is cancelled within a second or two, and without a line in the log.
#
# Version:  apache-airflow 3.3.2 (PyPI), Python 3.11, Linux, default settings but SQLite and free ports. 3.4.0b2 has the
#           same code.
# Guess:    `on_kill` of a deferred task's trigger has 30 seconds to cancel what runs elsewhere
#           (`[triggerer] on_kill_timeout`), and a warning follows if they are over.
# Instead:  the triggerer cancels the trigger in each of its rounds until it has ended. The second time this hits
#           `on_kill`, which gets a CancelledError; the log only has "trigger completed".
# Seen:     of 8 seconds that `on_kill` wants, it gets 1.0.
# Avoid it: do the work in a task of its own, `asyncio.shield` it, and wait on after a CancelledError.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check apache-airflow==3.3.2
cat >"$folder/check.py" <<'PYTHON'
import json
import os
import secrets
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

DAG = """
from datetime import datetime

from airflow.sdk import DAG, BaseOperator
from slow import SlowToKill


class Wait(BaseOperator):
    def execute(self, context):
        self.defer(trigger=SlowToKill(), method_name="execute")


with DAG("waits", schedule="@once", start_date=datetime(2026, 1, 1)):
    Wait(task_id="wait")
"""
TRIGGER = """
import asyncio
import time
from pathlib import Path

from airflow.triggers.base import BaseTrigger, TriggerEvent


class SlowToKill(BaseTrigger):
    def serialize(self):
        return "slow.SlowToKill", {}

    async def run(self):
        Path("FOLDER", "waits").touch()
        await asyncio.sleep(3600)
        yield TriggerEvent(None)

    async def on_kill(self):
        began = time.monotonic()
        how = "it was cancelled"
        try:
            await asyncio.sleep(WANTED)
            how = "it ended by itself"
        finally:
            Path("FOLDER", "part").write_text(f"{time.monotonic() - began:.1f} {how}")
            Path("FOLDER", "part").rename(Path("FOLDER", "killed"))
"""
WANTED = 8  # seconds that `on_kill` takes
WITHIN = 180  # seconds

home = Path(sys.argv[1]) / "airflow"
(home / "dags").mkdir(parents=True)
(home / "plugins").mkdir()
(home / "dags" / "waits.py").write_text(DAG)
(home / "plugins" / "slow.py").write_text(TRIGGER.replace("FOLDER", str(home)).replace("WANTED", str(WANTED)))
with socket.socket() as listener:
    listener.bind(("127.0.0.1", 0))
    port = listener.getsockname()[1]
settings = {
    "API__PORT": port,
    "API_AUTH__JWT_SECRET": secrets.token_hex(32),
    "API__SECRET_KEY": secrets.token_hex(32),
    "CORE__DAGS_ARE_PAUSED_AT_CREATION": False,
    "CORE__EXECUTION_API_SERVER_URL": f"http://127.0.0.1:{port}/execution/",
    "CORE__LOAD_EXAMPLES": False,
    "CORE__SIMPLE_AUTH_MANAGER_ALL_ADMINS": True,
}
env = {name: value for name, value in os.environ.items() if not name.startswith("AIRFLOW")}
env |= {f"AIRFLOW__{name}": str(value) for name, value in settings.items()}
env |= {"AIRFLOW_HOME": str(home), "HOME": str(home), "NO_PROXY": "127.0.0.1"}
airflow = [sys.executable, "-m", "airflow"]
services = []


def start(*arguments):
    log = (home / f"{arguments[0]}.log").open("w")
    services.append(
        subprocess.Popen([*airflow, *arguments], env=env, stdout=log, stderr=log, cwd=home, start_new_session=True)
    )


def call(method, path, body=None, **headers):
    data = None if body is None else json.dumps(body).encode()
    headers |= {"Content-Type": "application/json"}
    request = urllib.request.Request(f"http://127.0.0.1:{port}{path}", data, headers, method=method)
    with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=30) as response:
        return json.load(response)


def wait_for(condition, what):
    limit = time.monotonic() + WITHIN
    while not condition():
        if time.monotonic() > limit:
            logs = "\n".join(f"--- {log.name}\n{log.read_text()[-1500:]}" for log in sorted(home.glob("*.log")))
            sys.exit(f"waited {WITHIN} s for {what}\n{logs}")
        time.sleep(0.1)


def log_of_trigger():
    return "".join(path.read_text() for path in home.glob("logs/**/*.log.trigger.*"))


def end(session):
    """End all processes of a session."""
    for entry in Path("/proc").iterdir():
        try:
            if entry.name.isdecimal() and os.getsid(int(entry.name)) == session:
                os.kill(int(entry.name), signal.SIGKILL)
        except ProcessLookupError:
            pass


try:
    subprocess.run([*airflow, "db", "migrate"], env=env, cwd=home, check=True, capture_output=True)
    start("api-server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1")
    start("scheduler", "--skip-serve-logs")
    start("dag-processor")
    start("triggerer", "--skip-serve-logs")
    wait_for((home / "waits").exists, "the task to wait in the triggerer")
    token = call("GET", "/auth/token")["access_token"]
    tasks = "/api/v2/dags/waits/dagRuns"
    headers = {"Authorization": f"Bearer {token}"}
    run = call("GET", tasks, **headers)["dag_runs"][0]["dag_run_id"]
    run = urllib.request.quote(run, safe="")
    call("PATCH", f"{tasks}/{run}/taskInstances/wait", {"new_state": "failed"}, **headers)
    wait_for((home / "killed").exists, "on_kill")
    seconds, _, how = (home / "killed").read_text().partition(" ")
    print(f"on_kill takes {WANTED} s, and had {seconds} s: {how}")
    wait_for(lambda: "trigger completed" in log_of_trigger(), "the end of the trigger")
    print("in the task's log:", *(json.loads(line)["event"] for line in log_of_trigger().splitlines()), sep="\n  ")
    sys.exit(float(seconds) >= WANTED)
finally:
    for service in services:
        end(service.pid)
        service.wait()
PYTHON
"$folder/venv/bin/python" "$folder/check.py" "$folder"
