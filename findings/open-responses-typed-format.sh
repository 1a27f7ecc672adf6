#!/usr/bin/env bash
# By Open Responses' own schema, no response to a request with a JSON schema can be valid and say which schema it was.
#
# Version:  the OpenAPI document of Open Responses of 2026-04-24, as llm-comply 0.5.0 (PyPI) brings it; jsonschema 4.26.0
# Guess:    a response repeats the request's `text.format`, as OpenAI and OpenRouter do.
# Instead:  the request's `schema` is an object, and that of the response (JsonSchemaResponseFormat) allows only null.
#           A server has to choose between this document and OpenRouter's, which requires an object there. The
#           compliance cases do not show it: none of them asks for a JSON schema.
# Seen:     {"type": "object"} is valid in the request and invalid in the response; null is the other way round.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check 'llm-comply==0.5.0' 'jsonschema==4.26.0'
cat >"$folder/check.py" <<'PYTHON'
import json
from pathlib import Path

import llm_comply
from jsonschema import Draft202012Validator
from referencing import Registry, Resource
from referencing.jsonschema import DRAFT202012

document = json.loads((Path(llm_comply.__file__).parent / "specs" / "openresponses.json").read_text())
registry = Registry().with_resource("urn:api", Resource(contents=document, specification=DRAFT202012))


def is_valid(value, component):
    schema = {"$ref": f"urn:api#/components/schemas/{component}"}
    return Draft202012Validator(schema, registry=registry).is_valid(value)


seen = {}
for schema in ({"type": "object"}, None):
    wanted = {"type": "json_schema", "name": "row", "description": None, "strict": True, "schema": schema}
    asked = wanted | {"description": "A row"}
    seen[json.dumps(schema)] = is_valid(asked, "JsonSchemaResponseFormatParam"), is_valid(
        wanted, "JsonSchemaResponseFormat"
    )
version = document["info"]["version"]
for schema, (request, response) in seen.items():
    print(f"Open Responses {version}, schema {schema}: valid in a request {request}, in a response {response}")
assert seen == {'{"type": "object"}': (True, False), "null": (False, True)}, seen
PYTHON
timeout 60 "$folder/venv/bin/python" "$folder/check.py"
