"""Values that a sent schema accepts, for hypothesis."""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping
from typing import Any

from hypothesis import strategies as st
from jsonschema import Draft202012Validator
from jsonschema.validators import validator_for
from referencing import Registry

from airflow_provider_responses.models.output_limits import limits_of
from airflow_provider_responses.sandbox.model.schema_instances import make_instance

WORDS = st.text("abcxyz", min_size=1, max_size=3)
DATES = st.dates()
TIMES = st.times().map(lambda at: at.replace(microsecond=0).isoformat() + "Z")
FORMATS: dict[str, st.SearchStrategy[str]] = {
    "date": DATES.map(str),
    "time": TIMES,
    "date-time": st.builds(lambda day, at: f"{day}T{at}", DATES, TIMES),
    "duration": st.integers(0, 10**6).map("PT{}S".format),
    "email": WORDS.map("{}@example.com".format),
    "hostname": WORDS.map("{}.example.com".format),
    "ipv4": st.ip_addresses(v=4).map(str),
    "ipv6": st.ip_addresses(v=6).map(str),
    "uuid": st.uuids().map(str),
    "uri": WORDS.map("https://example.com/{}".format),
}
ANYTHING: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers(-100, 100) | st.floats(-9, 9) | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(WORDS, inner, max_size=2),
    max_leaves=4,
)
DEEPEST = 6  # levels of references


def instances(schema: Mapping[str, Any]) -> st.SearchStrategy[Any]:
    """Return values of a schema: of all kinds, or where a description has limits, those of the sandbox."""
    if has_limits(schema):
        return st.text(max_size=60).map(functools.partial(make_instance, dict(schema)))
    kind = validator_for(schema, default=Draft202012Validator)
    validator = kind(schema, registry=Registry())
    return st.deferred(lambda: values(schema, schema, 0)).filter(validator.is_valid)


def has_limits(part: Any) -> bool:
    if isinstance(part, list):
        return any(map(has_limits, part))
    return isinstance(part, dict) and (
        bool(limits_of(part).keys() - {"pattern"}) or any(map(has_limits, part.values()))
    )


def values(schema: Any, root: Mapping[str, Any], depth: int) -> st.SearchStrategy[Any]:
    """Return values of which most match a part of a schema."""
    if not isinstance(schema, Mapping):
        return ANYTHING
    if "$ref" in schema:
        if depth > DEEPEST:
            return st.nothing()
        return st.deferred(lambda: values(resolved(schema["$ref"], root), root, depth + 1))
    if "allOf" in schema:
        merged: dict[str, Any] = {}
        for part in schema["allOf"]:
            merged |= part
        return values(merged, root, depth)
    for name in ("anyOf", "oneOf"):
        if name in schema and "type" not in schema:
            return st.one_of(*(values(choice, root, depth) for choice in schema[name]))
    if "enum" in schema or "const" in schema:
        return st.sampled_from(schema.get("enum", [schema.get("const")]))
    kind = schema.get("type", "object" if "properties" in schema else None)
    if kind is None:
        return ANYTHING
    return st.one_of(*(of_type(it, schema, root, depth) for it in ([kind] if isinstance(kind, str) else kind)))


def resolved(reference: str, root: Mapping[str, Any]) -> Any:
    if not reference.startswith(("#/", "#")) or (len(reference) > 1 and reference[1] != "/"):
        return root["$defs"]["a"]  # the one with an anchor
    found: Any = root
    if "$id" in root.get("properties", {}).get("response", {}):
        found = root["properties"]["response"]
    for part in reference.split("/")[1:]:
        found = found[part.replace("~1", "/").replace("~0", "~")]
    return found


def of_type(kind: str, schema: Mapping[str, Any], root: Mapping[str, Any], depth: int) -> st.SearchStrategy[Any]:
    match kind:
        case "null":
            return st.none()
        case "boolean":
            return st.booleans()
        case "integer":
            return whole_numbers(schema)
        case "number":
            # Multiples of larger ones are not exact.
            least = schema.get("minimum", schema.get("exclusiveMinimum", -1e9))
            most = schema.get("maximum", schema.get("exclusiveMaximum", 1e9))
            return st.floats(least, most, allow_nan=False, allow_infinity=False) | whole_numbers(schema)
        case "string":
            return texts(schema)
        case "array":
            return arrays(schema, root, depth)
    return objects(schema, root, depth)


def whole_numbers(schema: Mapping[str, Any]) -> st.SearchStrategy[int]:
    least = schema.get("minimum", schema.get("exclusiveMinimum", -(10**9)))
    step = schema.get("multipleOf", 1)
    most = schema.get("maximum", schema.get("exclusiveMaximum", 10**9))
    return st.integers(int(-(-least // step)), int(most // step)).map(lambda number: number * int(step))


def texts(schema: Mapping[str, Any]) -> st.SearchStrategy[str]:
    if (pattern := schema.get("pattern") or limits_of(schema).get("pattern")) is not None:
        return st.from_regex(re.compile(pattern, re.ASCII), fullmatch=True)
    if schema.get("format") in FORMATS:
        return FORMATS[schema["format"]]
    return st.text(min_size=schema.get("minLength", 0), max_size=schema.get("maxLength", 8))


def arrays(schema: Mapping[str, Any], root: Mapping[str, Any], depth: int) -> st.SearchStrategy[list[Any]]:
    first = [values(part, root, depth) for part in schema.get("prefixItems", ())]
    least, most = schema.get("minItems", 0), schema.get("maxItems", 3)
    if first:
        return st.tuples(*first).map(list) | st.tuples(*first[:least]).map(list)
    items = values(schema.get("items", True), root, depth + 1)
    if items.is_empty:
        return st.just([])
    return st.lists(items, min_size=least, max_size=min(most, least + 3))


def objects(schema: Mapping[str, Any], root: Mapping[str, Any], depth: int) -> st.SearchStrategy[dict[str, Any]]:
    fields = {
        name: values(part, root, depth + 1) for name, part in schema.get("properties", {}).items() if part is not False
    }
    needed = {name: fields[name] for name in schema.get("required", ()) if name in fields}
    others = {name: it for name, it in fields.items() if name not in needed}
    known = st.fixed_dictionaries(needed, optional=others)
    further: list[st.SearchStrategy[dict[str, Any]]] = []
    absent = [name for name in schema.get("required", ()) if name not in fields]
    if absent:
        further.append(st.fixed_dictionaries(dict.fromkeys(absent, ANYTHING)))
    most = schema.get("maxProperties", 3)
    for pattern, part in schema.get("patternProperties", {}).items():
        further.append(st.dictionaries(st.from_regex(pattern, fullmatch=True), values(part, root, depth), max_size=2))
    if schema.get("additionalProperties", True) is not False and "patternProperties" not in schema:
        names = schema.get("propertyNames", {})
        if "$ref" in names:
            names = resolved(names["$ref"], root)
        keys = st.sampled_from(names["enum"]) if "enum" in names else texts(names) if names else WORDS
        open_to = values(schema.get("additionalProperties", True), root, depth + 1)
        least = schema.get("minProperties", 0)
        further.append(st.dictionaries(keys, open_to, min_size=least, max_size=max(least, min(most, 3))))
    return st.tuples(known, *further).map(lambda parts: {k: v for part in reversed(parts) for k, v in part.items()})
