#!/usr/bin/env bash
# `with fs.open(path, "wb")` stores what was written so far when an exception leaves the block, over a whole object.
#
# Version:  s3fs and fsspec 2026.9.0, moto[server] 5.2.5 (PyPI), Python 3.11
# Guess:    an upload that an exception interrupts is not there: S3 shows an object only when its upload is completed,
#           and `with` is what makes that so.
# Instead:  leaving the block closes the file, and closing it completes the upload, also a multipart one of which parts
#           are missing. A result of an hour ago is replaced by the first part of the next one, and no error remains
#           when the task is retried elsewhere.
# Seen:     20 MiB are replaced by the 6 MiB that a multipart upload had got to, and 100 bytes by 10.
# Avoid it: write a local file, then `fs.put_file(local, path)`, or `fs.pipe_file(path, data)`: both are whole or not
#           there. `fs.transaction` defers the commit, too, but keeps an open handle for each file.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check 's3fs==2026.9.0' 'fsspec==2026.9.0' 'moto[server]==5.2.5'
cat >"$folder/check.py" <<'PYTHON'
import s3fs
from moto.server import ThreadedMotoServer

server = ThreadedMotoServer(ip_address="127.0.0.1", port=0)
server.start()
fs = s3fs.S3FileSystem(endpoint_url="http://{}:{}".format(*server.get_host_and_port()), key="none", secret="none")
fs.mkdir("bucket")
MIB = 2**20
left = {}
for name, whole, written in (("multipart", 20 * MIB, 6 * MIB), ("small", 100, 10)):
    fs.pipe_file(f"bucket/{name}", b"o" * whole)
    try:
        with fs.open(f"bucket/{name}", "wb", block_size=5 * MIB) as file:
            file.write(b"n" * written)
            raise TimeoutError("the task's time is over")
    except TimeoutError:
        pass
    data = fs.cat_file(f"bucket/{name}")
    left[name] = (data[:1], len(data))
    print(f"{name}: of {whole} old bytes and {written} new ones, {len(data)} are left, of {data[:1]!r}")
server.stop()
assert left == {"multipart": (b"n", 6 * MIB), "small": (b"n", 10)}
PYTHON
timeout 60 "$folder/venv/bin/python" "$folder/check.py"
