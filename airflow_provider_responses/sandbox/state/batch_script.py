"""The settings of all batches, and the steps of a script that each change one batch, or one call about batches."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any, Final, Literal, Self, get_args

from pydantic import Field, model_validator

from airflow_provider_responses.sandbox.state.script import RepeatedStep, Step

BatchStatus = Literal[
    "validating", "in_progress", "finalizing", "completed", "failed", "expired", "cancelling", "cancelled"
]
BatchEnding = Literal["failed", "expired", "cancelled"]
BatchCall = Literal["create", "get", "list", "results", "delete", "cancel", "upload", "content"]
STATUSES: Final[tuple[str, ...]] = get_args(BatchStatus)
ENDINGS: Final[tuple[str, ...]] = get_args(BatchEnding)
HELD: Final = ("validating", "in_progress", "finalizing", "cancelling")
MAX_BYTES: Final = 200_000_000
RETENTION: Final = 30 * 86_400.0  # seconds
# Fields of an ordinary step that have a meaning for one request of a batch.
REQUEST_FIELDS: Final = frozenset(
    {"status", "kind", "message", "availability", "error_type", "failed", "incomplete", "refusal", "text", "times"}
)


@dataclass(frozen=True, kw_only=True)
class BatchSettings:
    """
    Settings of batches.

    :param seconds: seconds from the submission of a batch to its end.
    :param failing: share of the requests that fail, from 0 to 1.
    :param hold: the status in which batches stay; ``None`` for none.
    :param pages: whether ``GET /batches/{id}/results`` exists.
    :param page_size: results on each of its pages, if the call has no ``limit``.
    :param max_requests: requests in one batch; ``None`` is the limit of the service that is imitated.
    :param max_bytes: bytes of one submission or file.
    :param retention_seconds: seconds from the end of a batch until its results are gone (410).
    :param seed: decides which requests fail, and the order of the results.
    """

    seconds: float = 1.0
    failing: float = 0.0
    hold: str | None = None
    pages: bool = True
    page_size: int = 500
    max_requests: int | None = None
    max_bytes: int = MAX_BYTES
    retention_seconds: float = RETENTION
    seed: int = 0

    def __post_init__(self) -> None:
        _check_number("seconds", self.seconds, above=0)
        _check_number("failing", self.failing, at_most=1)
        _check_number("retention_seconds", self.retention_seconds)
        _check_whole_number("page_size", self.page_size, least=1)
        _check_whole_number("max_bytes", self.max_bytes, least=1)
        _check_whole_number("seed", self.seed, least=None)
        if self.max_requests is not None:
            _check_whole_number("max_requests", self.max_requests, least=1)
        if not isinstance(self.pages, bool):
            raise ValueError(f"pages must be true or false, got {self.pages!r}")  # noqa: TRY004  one kind for callers
        if self.hold not in {None, *HELD}:
            raise ValueError(f"hold must be null or one of {', '.join(HELD)}, got {self.hold!r}")

    def changed(self, changes: Any) -> Self:
        """
        Return the settings with those of a mapping in place of the same ones here.

        :raises ValueError: naming the wrong setting.
        """
        names = [field.name for field in fields(self)]
        if not isinstance(changes, Mapping):
            raise ValueError(f"settings of batches must be an object, got {changes!r}")  # noqa: TRY004  one kind for callers
        if unknown := sorted(set(changes) - set(names)):
            raise ValueError(f"{unknown[0]!r} is not a setting of batches: the settings are {', '.join(names)}")
        return replace(self, **changes)


class BatchStep(RepeatedStep):
    """
    The handling of one batch, or of one call about batches; the page "Testing" describes each field.

    ``call`` is the kind of call that uses the step. Fields from ``ending`` on are for batches that are created.
    """

    call: BatchCall = "create"
    status: int | None = Field(None, ge=400, le=599)
    message: str | None = None
    retry_after: float | None = Field(None, ge=0)
    drop: Literal[True, "after"] | None = None
    cut: Literal[True] | None = None
    delay: float | None = Field(None, ge=0)
    ending: BatchEnding | None = None
    ending_share: float = Field(0.5, ge=0, le=1)
    seconds: float | None = Field(None, gt=0)
    failing: float | None = Field(None, ge=0, le=1)
    responses: list[Step] = Field(default_factory=list)
    missing: int = Field(0, ge=0)
    repeated: int = Field(0, ge=0)
    unknown: int = Field(0, ge=0)

    @model_validator(mode="after")
    def _check_fields(self) -> BatchStep:
        named = [name for name in ("status", "drop", "cut") if getattr(self, name) is not None]
        if len(named) > 1:
            raise ValueError(f"a step must end a call in one way, got {' and '.join(named)}")
        of_a_batch = sorted(set(_BATCH_FIELDS) & self.model_fields_set)
        if of_a_batch and self.call != "create":
            raise ValueError(f"{of_a_batch[0]} is for the call 'create', got {self.call!r}")
        for index, step in enumerate(self.responses):
            if unusable := sorted(step.model_fields_set - REQUEST_FIELDS):
                raise ValueError(f"responses.{index}: {unusable[0]} has no meaning in a batch")
        return self


_BATCH_FIELDS: Final = ("ending", "ending_share", "seconds", "failing", "responses", "missing", "repeated", "unknown")


def _check_number(name: str, value: Any, *, above: float | None = None, at_most: float = math.inf) -> None:
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
    if not is_number or not 0 <= value <= at_most or (above is not None and value <= above):
        least = "> 0" if above is not None else ">= 0"
        most = "" if at_most == math.inf else f" and <= {at_most:g}"
        raise ValueError(f"{name} must be a number {least}{most}, got {value!r}")


def _check_whole_number(name: str, value: Any, *, least: int | None) -> None:
    if type(value) is not int or (least is not None and value < least):
        raise ValueError(f"{name} must be a whole number{'' if least is None else f' >= {least}'}, got {value!r}")
