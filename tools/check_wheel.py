"""Check an installed wheel: run with the Python of an environment that has the wheel and no source tree."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

PACKAGE, DISTRIBUTION = "airflow_provider_responses", "airflow-provider-responses"
TOOLS = Path(__file__).resolve().parent


def main() -> int:
    """Check the wheel named on the command line; the exit code is 0 if nothing is wrong."""
    names = zipfile.ZipFile(sys.argv[1]).namelist()
    if f"{PACKAGE}/py.typed" not in names:
        return fail("py.typed is not in the wheel")
    bundle = {f"{PACKAGE}/plugins/static/{name}" for name in ("index.html", "responses.js", "standalone.js")}
    if missing := bundle.difference(names):
        return fail(f"the pages for Airflow's UI are not in the wheel: {sorted(missing)}")
    if any(name.startswith(f"{PACKAGE}/plugins/ui/") for name in names):
        return fail("the wheel holds the sources of the pages")
    strays = [name for name in names if not name.startswith((f"{PACKAGE}/", f"{PACKAGE}-"))]
    if strays:
        return fail(f"the wheel holds more than the package: {strays}")

    with tempfile.TemporaryDirectory() as scratch:
        env = {name: value for name, value in os.environ.items() if not name.startswith("AIRFLOW_")}
        env["AIRFLOW_HOME"] = str(Path(scratch, "airflow"))

        def run(*arguments: str) -> str:
            command = [sys.executable, *arguments]
            return subprocess.run(command, cwd=scratch, env=env, check=True, text=True, stdout=subprocess.PIPE).stdout

        where = run("-c", f"import {PACKAGE}; print({PACKAGE}.__file__)").strip()
        if not Path(where).is_relative_to(sys.prefix):
            return fail(f"the package was imported from {where}")
        if DISTRIBUTION not in run("-m", "airflow", "providers", "get", DISTRIBUTION):
            return fail("Airflow does not find the provider")
        print(run(str(TOOLS / "demo.py"), "--folder", scratch), end="")
    print(f"{Path(sys.argv[1]).name}: Airflow finds the provider, py.typed is there, the demo works")
    return 0


def fail(reason: str) -> int:
    """Print the reason and return the exit code."""
    print(f"{sys.argv[1]}: {reason}", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main())
