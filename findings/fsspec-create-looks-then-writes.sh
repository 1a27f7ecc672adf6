#!/usr/bin/env bash
# fsspec's `pipe_file(mode="create")` is no exclusive create, except where a filesystem has its own.
#
# Version:  fsspec 2026.9.0 (PyPI), Python 3.11
# Guess:    mode="create" fails if the file exists, so that of several writers one succeeds, and it can be used as a
#           lock. s3fs (If-None-Match), adlfs and gcsfs (a condition in the request) are like that.
# Instead:  the method of the base class, which local disk and FTP, among others, inherit, looks whether the file
#           exists, and then writes it. Two writers who look at the same moment both succeed, and one overwrites the
#           other. A sequential test cannot tell: the second create is refused.
# Seen:     8 threads create each of 300 files on local disk: for about a third of the files more than one succeeds.
# Avoid it: `open(path, "xb")` on local disk; elsewhere see whether the class has a `pipe_file` of its own.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check 'fsspec==2026.9.0'
cat >"$folder/check.py" <<'PYTHON'
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import fsspec
from fsspec.implementations.ftp import FTPFileSystem
from fsspec.implementations.local import LocalFileSystem

WRITERS, FILES = 8, 300
fs = fsspec.filesystem("file")
together = threading.Barrier(WRITERS)


def create(path):
    together.wait()
    try:
        fs.pipe_file(path, b"mine", mode="create")
    except FileExistsError:
        return 0
    return 1


shared = 0
with ThreadPoolExecutor(WRITERS) as threads:
    for number in range(FILES):
        path = f"{sys.argv[1]}/{number}"
        shared += sum(threads.map(create, [path] * WRITERS)) > 1
fs.pipe_file(f"{sys.argv[1]}/once", b"", mode="create")
try:
    fs.pipe_file(f"{sys.argv[1]}/once", b"", mode="create")
    refused = False
except FileExistsError:
    refused = True
inherit = [kind.__name__ for kind in (LocalFileSystem, FTPFileSystem) if "pipe_file" not in vars(kind)]
print(f"{shared} of {FILES} files were created by more than one; one after the other the second is refused: {refused}")
print(f"without a method of their own: {', '.join(inherit)}")
assert shared > 0
assert refused
assert inherit == ["LocalFileSystem", "FTPFileSystem"]
PYTHON
timeout 60 "$folder/venv/bin/python" "$folder/check.py" "$folder"
