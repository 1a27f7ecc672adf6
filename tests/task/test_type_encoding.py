"""An `output_type` as text, for another process: the same type, or none if that process cannot import it."""

from __future__ import annotations

import enum
import json
import subprocess
import sys
from typing import Annotated, Any, Literal

import pytest
from pydantic import BaseModel, Field

from airflow_provider_responses.models.output import json_schema_format
from airflow_provider_responses.task.type_encoding import decode_type, encode_type
from tests.models.output_corpus import CORPUS
from tests.models.output_kinds import KINDS, Label, Labels, Page, Status, Tree

ENCODED = {name: kind for name, (kind, _) in KINDS.items() if encode_type(kind) is not None}


@pytest.mark.parametrize("name", ENCODED)
def test_a_type_is_decoded_as_the_same_type(name: str) -> None:
    kind = ENCODED[name]
    text = encode_type(kind)
    assert text is not None
    assert json_schema_format(decode_type(text)) == json_schema_format(kind)


def test_most_types_have_an_encoding() -> None:
    # Not those with metadata, nor generic models and models that were made by a call.
    assert len(ENCODED) > len(KINDS) - 25
    assert all(f"schema_{name}" in ENCODED for name in ("strict", "any_object", "recursive_root"))


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        (None, None),
        (Label, "tests.models.output_kinds:Label"),
        (int, "builtins:int"),
        (Labels, "tests.models.output_kinds:Labels"),
        (list[Label], '{"generic": "builtins:list", "arguments": ["tests.models.output_kinds:Label"]}'),
        (Tree | None, '{"union": ["tests.models.output_kinds:Tree", null]}'),
        (Literal["a", 1, True, None], '{"literal": ["a", 1, true, null]}'),
        (Literal[Status.OPEN], '{"literal": [{"enum": "tests.models.output_kinds:Status", "member": "OPEN"}]}'),
        (tuple[int, ...], '{"generic": "builtins:tuple", "arguments": ["builtins:int", {"ellipsis": true}]}'),
        ({"type": "null"}, '{"schema": {"type": "null"}}'),
        (Any, '{"any": true}'),
    ],
    ids=str,
)
def test_the_form_of_the_text(kind: Any, text: str | None) -> None:
    assert encode_type(kind) == text


class Local(BaseModel):
    x: int


class Hidden(enum.Enum):
    A = 1


def test_a_class_of_a_dag_file_has_no_encoding(monkeypatch: pytest.MonkeyPatch) -> None:
    class Inner(BaseModel):
        x: int

    monkeypatch.setattr(Local, "__module__", "unusual_prefix_0123_dag")
    monkeypatch.setattr(Hidden, "__module__", "__main__")
    kinds: list[Any] = [Inner, Local, list[Local], Inner | None, dict[str, list[Local]], Literal[Hidden.A], Hidden]
    for kind in [*kinds, Page[int], Annotated[int, Field(ge=1)], Literal[b"x"], CORPUS["text"]]:
        assert encode_type(kind) is None


def test_another_process_decodes_it() -> None:
    kinds = [list[Label], Label | None, dict[str, Status], {"type": "array", "items": {"enum": ["a", 1]}}]
    source = (
        "import json, sys\n"
        "from airflow_provider_responses.models.output import json_schema_format\n"
        "from airflow_provider_responses.task.type_encoding import decode_type\n"
        "print(json.dumps([json_schema_format(decode_type(text)) for text in json.load(sys.stdin)]))"
    )
    given = json.dumps([encode_type(kind) for kind in kinds])
    run = subprocess.run([sys.executable, "-c", source], input=given, capture_output=True, text=True, check=True)
    assert json.loads(run.stdout) == [json_schema_format(kind) for kind in kinds]


@pytest.mark.parametrize(
    "text",
    [
        "no_such_module:X",
        "tests.models.output_kinds:NoSuch",
        '{"generic": "builtins:int", "arguments": []}',
    ],
)
def test_a_type_that_is_gone_raises(text: str) -> None:
    with pytest.raises((ImportError, AttributeError, TypeError)):
        decode_type(text)
