"""
Items that a model or a server made, as they are sent back in an ``input``, with what a server left out filled in.

Ids that are made are the same for the same items: an attempt that is repeated must be the same bytes.
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
from airflow_provider_responses.models.fitting import fitted
from airflow_provider_responses.models.messages import NO_OUTPUT, TEXT_PARTS, is_message, parts_of, with_ids_apart

ID: Final = "id"
ROLES: Final = ("user", "system", "assistant", "developer")
_COMPLETED: Final = {"status": "completed"}
_NAMED: Final = {"name": "", "arguments": "{}"}
# What an item of the history must have, and what stands for it where a server left it out; "id" is made.
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

    What is there stays as it came, except for what has a type that the API does not take back: see ``fitted``. Ids
    that are missing are made of the item, so the same response always gives the same history. An item that is sent
    twice under one id is sent back once.

    :param response_id: tells the ids of two responses with the same text apart.
    """
    items = with_ids_apart(items)
    sent: dict[Any, dict[str, Any]] = {}
    for place, item in enumerate(items):
        whole = _whole(_plain(item), _digest(response_id, place, item))
        if whole is not None:
            sent[whole["type"], whole.get("id") or place] = whole
    return list(sent.values())


def filled(items: Sequence[Any]) -> list[Any]:
    """Return the items of a request with what OpenRouter requires of a model's own, and other servers leave out."""
    return [_required(item, place) if isinstance(item, Mapping) else item for place, item in enumerate(items)]


def _required(item: Mapping[str, Any], place: int) -> Mapping[str, Any]:
    if item.get("type") == "reasoning":
        wanted = {"id": f"rs_{_digest(place, item)}", "summary": []}
    elif _is_of_a_model(item):
        wanted = {"type": "message", "id": f"msg_{_digest(place, item)}", "status": "completed"}
    else:
        return item
    missing = {name: value for name, value in wanted.items() if item.get(name) is None}
    return {**item, **missing} if missing else item


def _is_of_a_model(item: Mapping[str, Any]) -> bool:
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


def _whole(item: dict[str, Any], digest: str) -> dict[str, Any] | None:
    whole = _filled(item, digest)
    if whole is None:
        return None
    stand_ins = {name: default for name, default in _required_of(whole["type"]).items() if default is not ID}
    return fitted(whole, stand_ins)


def _required_of(kind: str) -> Mapping[str, Any]:
    return REQUIRED.get(kind) or (_COMPLETED if kind.startswith("openrouter:") else {})


def _filled(item: dict[str, Any], digest: str) -> dict[str, Any] | None:
    kind = item.get("type")
    if is_message(item):
        return _message(item, f"msg_{digest}") if "role" in item or "content" in item else None
    if not isinstance(kind, str):
        return None
    made = item.get("id") if _is_text(item.get("id")) else f"{_PREFIX.get(kind, 'item')}_{digest}"
    for name, stands_in in (("id", made), ("call_id", made), ("status", "completed")):
        if item.get(name) is not None and not isinstance(item[name], str):
            item[name] = stands_in
    for name, default in _required_of(kind).items():
        value = item.get(name)
        if default is ID:
            item[name] = value if _is_text(value) else made
        elif value is None or (isinstance(default, str) and not isinstance(value, str)):
            item[name] = json.dumps(value) if name in _TEXTS and value is not None else copy.deepcopy(default)
    if kind == "reasoning":
        item["summary"] = _parts(item["summary"], lambda part: _of_kind(part, "summary_text"))
        if item.get("content") is not None:
            item["content"] = _parts(item["content"], lambda part: _of_kind(part, "reasoning_text"))
    return item


def _of_kind(part: dict[str, Any], kind: str) -> dict[str, Any]:
    """A piece of reasoning, under whatever name a server gives it."""
    known = not isinstance(part.get("type"), str) or part["type"] in {kind, *TEXT_PARTS, *NO_OUTPUT}
    return {**part, "type": kind, "text": _text(part.get("text"))} if known else part


def _message(item: dict[str, Any], made: str) -> dict[str, Any]:
    item["type"] = "message"
    if item.get("role") not in ROLES:
        item["role"] = "assistant"
    if not _is_text(item.get("id")):
        item["id"] = made
    if not _is_text(item.get("status")):
        item["status"] = "completed"
    if not isinstance(item.get("content"), str):
        parts = _parts(item.get("content"), _content_part if item["role"] == "assistant" else _input_part)
        item["content"] = [part for part in parts if part.get("type") not in (*NO_OUTPUT,)]  # no place for reasoning
    return item


def _content_part(part: dict[str, Any]) -> dict[str, Any]:
    """A model's own text under any of the names that servers give it; what has another content stays as it is."""
    kind = part.get("type") if isinstance(part.get("type"), str) else None
    if kind == "refusal" or (kind is None and "refusal" in part):
        words = part.get("refusal", part.get("text"))
        return {**part, "type": "refusal", "refusal": _text(words)}
    if kind in (None, "input_text", *TEXT_PARTS):
        said = {**part, "type": "output_text", "text": _text(part.get("text"))}
        if "annotations" in said:
            said["annotations"] = [note for note in _list(said["annotations"]) if isinstance(note, dict)]
        return said
    return part


def _input_part(part: dict[str, Any]) -> dict[str, Any]:
    """Text of a message of another role than the assistant's."""
    if part.get("type") not in (None, *TEXT_PARTS):
        return dict(part)
    return {"type": "input_text", "text": _text(part.get("text"))}


def _parts(content: Any, named: Callable[[dict[str, Any]], dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the parts of a ``content`` or a ``summary``; a text in place of a part is one."""
    values = _list(content) or [content]
    parts = ({"text": value} if isinstance(value, str) else value for value in values)
    return [named(part) for part in parts_of(list(parts))]


def _plain(value: Any) -> Any:
    """Copy a value; of what JSON in UTF-8 cannot hold, NaN and infinity become null, half a surrogate pair U+FFFD."""
    if isinstance(value, Mapping):
        return {_plain(name): _plain(item) for name, item in value.items()}
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, str):
        return value if _SURROGATE.search(value) is None else _paired(value)
    return [_plain(item) for item in value] if isinstance(value, list) else value


def _paired(text: str) -> str:
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and bool(value)


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []
