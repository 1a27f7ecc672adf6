"""Every ``usage`` that a test sees has the documented form."""

from __future__ import annotations

import functools
import json
import re
from pathlib import Path
from typing import Any

from airflow_provider_responses.task.xcom import USAGE_KEY

PAGE = Path(__file__).resolve().parent.parent / "docs" / "responses.md"


@functools.cache
def documented_schema() -> dict[str, Any]:
    """Return the JSON schema of ``usage`` in the documentation."""
    (block,) = re.findall(r"^```json\n(\{\n  \"\$schema.*?)^```", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    return dict(json.loads(block))


@functools.cache
def _validator() -> Any:
    from jsonschema import Draft202012Validator

    Draft202012Validator.check_schema(documented_schema())
    return Draft202012Validator({**documented_schema(), "additionalProperties": False})


def check_xcom(key: str, value: Any) -> None:
    """Fail if an XCom is not plain JSON, or a ``usage`` has another form."""
    json.dumps(value, allow_nan=False)
    if key == USAGE_KEY:
        _validator().validate(value)
