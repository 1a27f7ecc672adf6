"""
Items of a response as items of the next ``input``. Required fields that a server left out are filled in.

Generated ids are the same for the same items: a request that is sent again must have the same bytes.
"""

from __future__ import annotations

import copy
import hashlib
import json
import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final

from airflow_provider_responses.models.content import OUTPUT_PARTS
from airflow_provider_responses.models.fitting import fit_item
from airflow_provider_responses.models.messages import NO_OUTPUT, TEXT_PARTS, is_message, parts_of, with_unique_ids

ID: Final = "id"
ROLES: Final = ("user", "system", "assistant", "developer")
_COMPLETED: Final = {"status": "completed"}
_NAMED: Final = {"name": "", "arguments": "{}"}
# The required fields of an item, each with the value that is filled in if a server left it out; "id" is generated.
REQUIRED: Final[Mapping[str, Mapping[str, Any]]] = {
    "reasoning": {"id": ID, "summary": []},
    "function_call": {"call_id": ID, **_NAMED},
    "function_call_output": {"call_id": ID, "output": ""},
    "custom_tool_call": {"call_id": ID, "name": "", "input": ""},
    "custom_tool_call_output": {"call_id": ID, "output": ""},
    "web_search_call": {"id": ID, **_COMPLETED},
    "file_search_call": {"id": ID, "queries": [], **_COMPLETED},
    "image_generation_call": {"id": ID, **_COMPLETED},
    "code_interpreter_call": {"id": ID, **_COMPLETED},
    "computer_call": {"call_id": ID, "pending_safety_checks": [], **_COMPLETED},
    "local_shell_call": {
        "id": ID,
        "call_id": ID,
        "action": {"type": "exec", "command": [], "env": {}},  # runs nothing
        **_COMPLETED,
    },
    "local_shell_call_output": {"id": ID, "output": ""},
    "shell_call": {"call_id": ID},
    "shell_call_output": {"call_id": ID, "output": []},
    "apply_patch_call": {
        "call_id": ID,
        "operation": {"type": "update_file", "path": "", "diff": ""},  # changes nothing
        **_COMPLETED,
    },
    "apply_patch_call_output": {"call_id": ID, **_COMPLETED},
    "mcp_call": {"id": ID, "server_label": "", **_NAMED},
    "mcp_list_tools": {"id": ID, "server_label": "", "tools": []},
    "mcp_approval_request": {"id": ID, "server_label": "", **_NAMED},
    "compaction": {"encrypted_content": ""},
    "tool_search_call": {"call_id": ID, "execution": "server"},
    "tool_search_output": {"call_id": ID, "execution": "server", "tools": []},
    "openrouter:armor_blocked": {
        "id": ID,
        "call_id": ID,
        **_NAMED,
        "explanation": "",
        "reason": "",
        **_COMPLETED,
    },
}
# Fields that are text; a server may send the object that the text would hold.
_TEXTS: Final = frozenset({"arguments", "input", "name"})
_SURROGATE: Final = re.compile(r"[\ud800-\udfff]")
_PREFIX: Final[Mapping[str, str]] = {"message": "msg", "reasoning": "rs", "function_call": "fc"}


def to_input(items: Iterable[Mapping[str, Any]], *, response_id: str | None) -> list[dict[str, Any]]:
    """
    Return items of a response as items of an ``input``.

    Values that the API does not accept as input are converted or removed (see ``fit_item``), the others stay as they
    are. Missing ids are generated from the item, so the same response always gives the same history. An item that
    occurs twice under one id is returned once.

    :param response_id: makes the generated ids of two responses with the same text differ.
    """
    items = with_unique_ids(items)
    found: dict[Any, dict[str, Any]] = {}
    for position, item in enumerate(items):
        complete = _complete_item(_plain(item), _digest(response_id, position, item))
        if complete is not None:
            found[complete["type"], complete.get("id") or position] = complete
    return list(found.values())


def fill_required(items: Sequence[Any]) -> list[Any]:
    """Return the items of a request; fields that OpenRouter requires of a model's output are filled in."""
    return [
        _fill_required(item, position) if isinstance(item, Mapping) else item for position, item in enumerate(items)
    ]


def _fill_required(item: Mapping[str, Any], position: int) -> Mapping[str, Any]:
    if item.get("type") == "reasoning":
        wanted = {"id": f"rs_{_digest(position, item)}", "summary": []}
    elif _is_model_message(item):
        wanted = {"type": "message", "id": f"msg_{_digest(position, item)}", "status": "completed"}
    else:
        return item
    missing = {name: value for name, value in wanted.items() if item.get(name) is None}
    return {**item, **missing} if missing else item


def _is_model_message(item: Mapping[str, Any]) -> bool:
    content = item.get("content")
    return (
        item.get("role") == "assistant"
        and item.get("type", "message") == "message"
        and isinstance(content, Sequence)
        and any(isinstance(part, Mapping) and part.get("type") in tuple(OUTPUT_PARTS) for part in content)
    )


def _digest(*seed: Any) -> str:
    text = json.dumps(seed, sort_keys=True, default=repr)
    return hashlib.sha256(text.encode()).hexdigest()[:24]


def _complete_item(item: dict[str, Any], digest: str) -> dict[str, Any] | None:
    filled = _filled(item, digest)
    if filled is None:
        return None
    stand_ins = {name: default for name, default in _required_of(filled["type"]).items() if default is not ID}
    return fit_item(filled, stand_ins)


def _required_of(kind: str) -> Mapping[str, Any]:
    return REQUIRED.get(kind) or (_COMPLETED if kind.startswith("openrouter:") else {})


def _filled(item: dict[str, Any], digest: str) -> dict[str, Any] | None:
    kind = item.get("type")
    if is_message(item):
        return _message(item, f"msg_{digest}") if "role" in item or "content" in item else None
    if not isinstance(kind, str):
        return None
    generated = item.get("id") if _is_text(item.get("id")) else f"{_PREFIX.get(kind, 'item')}_{digest}"
    for name, stand_in in (("id", generated), ("call_id", generated), ("status", "completed")):
        if item.get(name) is not None and not isinstance(item[name], str):
            item[name] = stand_in
    for name, default in _required_of(kind).items():
        value = item.get(name)
        if default is ID:
            item[name] = value if _is_text(value) else generated
        elif value is None or (isinstance(default, str) and not isinstance(value, str)):
            item[name] = json.dumps(value) if name in _TEXTS and value is not None else copy.deepcopy(default)
    if kind == "reasoning":
        item["summary"] = _parts(item["summary"], lambda part: _of_kind(part, "summary_text"))
        if item.get("content") is not None:
            item["content"] = _parts(item["content"], lambda part: _of_kind(part, "reasoning_text"))
    return item


def _of_kind(part: dict[str, Any], kind: str) -> dict[str, Any]:
    """Return a piece of reasoning under the API's name for it; servers have other names."""
    known = not isinstance(part.get("type"), str) or part["type"] in {kind, *TEXT_PARTS, *NO_OUTPUT}
    return {**part, "type": kind, "text": _text(part.get("text"))} if known else part


def _message(item: dict[str, Any], generated_id: str) -> dict[str, Any]:
    item["type"] = "message"
    if item.get("role") not in ROLES:
        item["role"] = "assistant"
    if not _is_text(item.get("id")):
        item["id"] = generated_id
    if not _is_text(item.get("status")):
        item["status"] = "completed"
    if not isinstance(item.get("content"), str):
        parts = _parts(item.get("content"), _content_part if item["role"] == "assistant" else _input_part)
        item["content"] = [
            part for part in parts if part.get("type") not in (*NO_OUTPUT,)
        ]  # a message may not hold reasoning
    return item


def _content_part(part: dict[str, Any]) -> dict[str, Any]:
    """Return text of a model under the API's name for it; parts with other content are not changed."""
    kind = part.get("type") if isinstance(part.get("type"), str) else None
    if kind == "refusal" or (kind is None and "refusal" in part):
        words = part.get("refusal", part.get("text"))
        return {**part, "type": "refusal", "refusal": _text(words)}
    if kind in (None, "input_text", *TEXT_PARTS):
        output = {**part, "type": "output_text", "text": _text(part.get("text"))}
        if "annotations" in output:
            output["annotations"] = [note for note in _list(output["annotations"]) if isinstance(note, dict)]
        return output
    return part


def _input_part(part: dict[str, Any]) -> dict[str, Any]:
    """Return text of a message with another role than the assistant's."""
    if part.get("type") not in (None, *TEXT_PARTS):
        return dict(part)
    return {"type": "input_text", "text": _text(part.get("text"))}


def _parts(content: Any, convert: Callable[[dict[str, Any]], dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the parts of a ``content`` or a ``summary``, which may be or hold plain texts."""
    values = _list(content) or [content]
    parts = ({"text": value} if isinstance(value, str) else value for value in values)
    return [convert(part) for part in parts_of(list(parts))]


def _plain(value: Any) -> Any:
    """Copy a value as JSON in UTF-8 can hold it: NaN and infinity become null, half of a surrogate pair U+FFFD."""
    if isinstance(value, Mapping):
        return {_plain(name): _plain(item) for name, item in value.items()}
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, str):
        return value if _SURROGATE.search(value) is None else _with_valid_surrogates(value)
    return [_plain(item) for item in value] if isinstance(value, list) else value


def _with_valid_surrogates(text: str) -> str:
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and bool(value)


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []
