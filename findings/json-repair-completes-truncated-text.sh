#!/usr/bin/env bash
# json-repair makes a whole object of a truncated one, also with `strict=True`.
#
# Version:  json-repair 0.64.6 (PyPI), Python 3.11
# Guess:    `strict=True` raises ValueError where something is missing, so that a response cut off by its token limit is
#           not taken for a whole one.
# Instead:  a text that ends inside a string, a list or a word is closed where it ends, in both modes: half a sentence,
#           two of five rows, and `tru` as the text "tru". Of a key that is there twice one value is lost. A schema with
#           text fields and lists finds nothing wrong with the result.
# Seen:     {'note': 'half of a'}, {'rows': [1, 2]}, {'done': 'tru'} and {'a': 2}, each without an error.
# Avoid it: repair only responses that are known to be complete, and accept a repair only if nothing was left open.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check 'json-repair==0.64.6'
"$folder/venv/bin/python" - <<'PYTHON'
import json_repair

expected = {
    '{"note": "half of a': {"note": "half of a"},
    '{"rows": [1, 2': {"rows": [1, 2]},
    '{"done": tru': {"done": "tru"},
    '{"a": 1, "a": 2}': {"a": 2},
}
for text, value in expected.items():
    seen = [json_repair.loads(text, strict=strict) for strict in (False, True)]
    print(f"{text}  ->  {seen[1]!r} with strict=True")
    assert seen == [value, value], seen
PYTHON
