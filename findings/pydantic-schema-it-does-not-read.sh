#!/usr/bin/env bash
# What pydantic's own JSON schema asks a model for is not always what pydantic reads.
#
# Version:  pydantic 2.14.3 (PyPI), Python 3.11
# Guess:    JSON that is valid by `Model.model_json_schema()` is read by `Model.model_validate_json()`: the schema is made
#           in the mode "validation" for that. So a language model that keeps to the schema gives what can be read.
# Instead:  - a field with `validation_alias=AliasPath(...)` is asked for under its own name, which is then not read;
#           - NaiveDatetime is asked for as `date-time`, which by RFC 3339 has a time zone, and that is refused;
#           - a Decimal may be a JSON number, which goes through a float: digits after the 17th change without a word.
# Seen:     {"n": 1} is "missing"; "2026-01-02T03:04:05Z" is refused; 12345678901234567.89 becomes 12345678901234568.
# Avoid it: ask for the names and forms that validation reads; for exact decimals, ask for text.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check 'pydantic==2.14.3' 'jsonschema[format]==4.26.0'
"$folder/venv/bin/python" - <<'PYTHON'
import json
from decimal import Decimal

from jsonschema import Draft202012Validator
from pydantic import AliasPath, BaseModel, Field, NaiveDatetime, ValidationError


class Counted(BaseModel):
    n: int = Field(validation_alias=AliasPath("counts", 0))


class Dated(BaseModel):
    at: NaiveDatetime


class Priced(BaseModel):
    price: Decimal


checker = Draft202012Validator.FORMAT_CHECKER
assert "date-time" in checker.checkers, "the format would not be checked"
for model, text in ((Counted, '{"n": 1}'), (Dated, '{"at": "2026-01-02T03:04:05Z"}')):
    assert Draft202012Validator(model.model_json_schema(), format_checker=checker).is_valid(json.loads(text)), text
    try:
        model.model_validate_json(text)
        raise AssertionError(f"{text} was read")
    except ValidationError as error:
        print(f"{model.__name__}: {text} is valid by the schema, and refused: {error.errors()[0]['type']}")
text = '{"price": 12345678901234567.89}'
assert Draft202012Validator(Priced.model_json_schema()).is_valid(json.loads(text))
price = Priced.model_validate_json(text).price
print(f"Priced: {text} is read as {price}")
assert price == Decimal("12345678901234568"), price
PYTHON
