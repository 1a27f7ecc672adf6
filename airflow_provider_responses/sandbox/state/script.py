"""The steps of a script: each changes the response to one call."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, Literal, TypeVar, get_args

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from airflow_provider_responses.sandbox.model.function_choice import ScriptedCall
from airflow_provider_responses.sandbox.model.generation import Directions, Failure

ErrorType = Literal[
    "context_length_exceeded",
    "max_tokens_exceeded",
    "token_limit_exceeded",
    "string_too_long",
    "authentication",
    "permission_denied",
    "payment_required",
    "rate_limit_exceeded",
    "provider_overloaded",
    "provider_unavailable",
    "invalid_request",
    "invalid_prompt",
    "not_found",
    "precondition_failed",
    "payload_too_large",
    "unprocessable",
    "content_policy_violation",
    "refusal",
    "invalid_image",
    "image_too_large",
    "image_too_small",
    "unsupported_image_format",
    "image_not_found",
    "image_download_failed",
    "server",
    "timeout",
    "unmapped",
]
Kind = Literal["guardrail-blocked", "insufficient-permissions", "moderation"]
ErrorEvent = Literal["error", "error-object", "response.error"]
Availability = Literal[
    "model_not_found",
    "wrong_endpoint",
    "no_endpoints",
    "model_deprecated",
    "model_unavailable_upstream",
    "capacity_exhausted",
    "temporarily_unavailable",
    "region_restricted",
    "privacy_restricted",
    "constraint_filtered",
    "free_variant_ended",
]
ERROR_TYPES: Final[tuple[str, ...]] = get_args(ErrorType)
KINDS: Final[tuple[str, ...]] = get_args(Kind)
ERROR_EVENTS: Final[tuple[str, ...]] = get_args(ErrorEvent)
AVAILABILITY_STATUS: Final[dict[str, int]] = dict.fromkeys(get_args(Availability), 404) | {
    "model_unavailable_upstream": 503,
    "capacity_exhausted": 503,
    "temporarily_unavailable": 503,
    "region_restricted": 403,
}
ERROR_TYPE_STATUS: Final[dict[str, int]] = {
    "authentication": 401,
    "payment_required": 402,
    "permission_denied": 403,
    "not_found": 404,
    "image_not_found": 404,
    "precondition_failed": 412,
    "payload_too_large": 413,
    "unprocessable": 422,
    "rate_limit_exceeded": 429,
    "server": 500,
    "unmapped": 500,
    "provider_unavailable": 502,
    "provider_overloaded": 503,
    "timeout": 504,
}
# Fields that change how a call ends; a step has at most one of them.
ENDINGS: Final = (
    "status",
    "failed",
    "incomplete",
    "refusal",
    "drop",
    "hang",
    "truncate",
    "cut",
    "stall",
    "malformed",
    "error_event",
)
# Fields that change how fast a response arrives.
PACE: Final = ("delay", "chunk_delay", "keep_alive", "split")
PLAIN_MODELS: Final[dict[str, dict[str, Any]]] = {
    "incomplete": {"incomplete": "max_output_tokens"},
    "incomplete-content_filter": {"incomplete": "content_filter"},
    "refusal": {"refusal": "I cannot help with that."},
    "invalid": {"text": "I am not sure."},
    "drop": {"drop": True},
    "hang": {"hang": True},
    "truncate": {"truncate": True},
    "cut": {"cut": True},
    "stall": {"stall": True},
    "malformed": {"malformed": True},
}


class RepeatedStep(BaseModel):
    """A step of any script, for one call or more."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    times: int = Field(1, ge=1, le=100_000)


AnyStep = TypeVar("AnyStep", bound=RepeatedStep)


class FunctionCall(BaseModel):
    """One function call of a step."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    name: str
    arguments: dict[str, Any] | str = Field(default_factory=dict)


class Step(RepeatedStep):
    """The response of the sandbox to one call; the package's docstring describes each field."""

    status: int | None = Field(None, ge=400, le=599)
    kind: Kind | None = None
    message: str | None = None
    retry_after: float | None = Field(None, ge=0)
    metadata: dict[str, Any] | None = None
    availability: dict[str, Any] | Availability | None = None
    error_type: ErrorType | None = None
    failed: ErrorType | None = None
    incomplete: Literal["max_output_tokens", "content_filter"] | None = None
    refusal: str | None = None
    drop: Literal[True, "after"] | None = None
    hang: Literal[True] | None = None
    truncate: Literal[True] | None = None
    cut: Literal[True] | None = None
    stall: Literal[True] | None = None
    malformed: Literal[True] | None = None
    late: Literal[True] | None = None
    error_event: ErrorEvent | None = None
    text: str | None = None
    calls: int | list[FunctionCall] | None = None
    delay: float | None = Field(None, ge=0)
    chunk_delay: float = Field(0.0, ge=0)
    keep_alive: float | None = Field(None, gt=0)
    split: int | None = Field(None, ge=1)

    @model_validator(mode="after")
    def _check_endings(self) -> Step:
        if self.kind is not None and self.status not in {None, 403}:
            raise ValueError(f"kind {self.kind!r} must have status 403, got {self.status}")
        named = [name for name in ENDINGS if getattr(self, name) is not None]
        if isinstance(self.availability, str) and self.status is None and self.kind is None:
            named.append("availability")
        if len(named) > 1:
            raise ValueError(f"a step must end a call in one way, got {' and '.join(named)}")
        return self

    @property
    def error_status(self) -> int | None:
        """The status of the step's HTTP error."""
        if self.kind is None and self.status is None and isinstance(self.availability, str):
            return AVAILABILITY_STATUS[self.availability]
        return 403 if self.kind else self.status

    @property
    def changes_ending(self) -> bool:
        """Whether the step changes how the call ends."""
        return self.error_status is not None or any(getattr(self, name) is not None for name in ENDINGS)

    @property
    def directions(self) -> Directions:
        """Return the changes that the step makes to the output of the model."""
        error_type = self.failed or ((self.error_type or "server") if self.error_event else None)
        failure = Failure(error_type=error_type, message=self.message, event=self.error_event) if error_type else None
        calls = self.calls
        if isinstance(calls, list):
            scripted = tuple(ScriptedCall(call.name, call.arguments) for call in calls)
            return Directions(calls=scripted, refusal=self.refusal, incomplete=self.incomplete, failure=failure)
        return Directions(
            text=self.text, call_results=calls, refusal=self.refusal, incomplete=self.incomplete, failure=failure
        )


def error_status(error_type: str | None) -> int:
    """Return the HTTP status of an ``error_type``."""
    return ERROR_TYPE_STATUS.get(error_type or "", 400)


def parse_steps(steps: Any) -> list[Step]:
    """
    Return the steps of a script, each repeated ``times`` times.

    :raises ValueError: naming the step and its wrong fields.
    """
    return parse_steps_as(Step, steps)


def parse_steps_as(step_class: type[AnyStep], steps: Any) -> list[AnyStep]:
    """
    Return the steps of a script as a class, each repeated ``times`` times.

    :raises ValueError: naming the step and its wrong fields.
    """
    listed = [steps] if isinstance(steps, Mapping) else steps
    if not isinstance(listed, (list, tuple)):
        raise ValueError(f"a script must be a list of steps, each a JSON object, got {steps!r}")  # noqa: TRY004  one kind for callers
    parsed: list[AnyStep] = []
    for index, step in enumerate(listed):
        try:
            valid = step_class.model_validate(step)
        except ValidationError as error:
            raise ValueError(f"step {index}: {explain_validation(error)}") from None
        parsed += [valid] * valid.times
    return parsed


def step_for_model(model: str) -> Step | None:
    """Return the step that a ``sandbox/...`` model stands for; ``None`` if there is no such model."""
    try:
        fields = _fields_of(model.partition("/")[2])
        return Step.model_validate(fields) if fields else None
    except ValidationError:
        return None


def _fields_of(name: str) -> dict[str, Any] | None:
    prefix, _, rest = name.partition("-")
    if name in KINDS:
        return {"kind": name}
    if prefix == "calls" and rest.isdecimal():
        return {"calls": int(rest)}
    if prefix == "error" and rest.isdecimal():
        return {"status": int(rest)}
    named = {"failed": "failed", "event": "error_event", "availability": "availability"}.get(prefix)
    return {named: rest} if named and rest else PLAIN_MODELS.get(name)


def explain_validation(error: ValidationError) -> str:
    """Return the wrong fields of a step and what is wrong with each."""
    texts = []
    for detail in error.errors(include_url=False, include_context=False):
        path = ".".join(str(part) for part in detail["loc"])
        problem = "is not a field of a step" if detail["type"] == "extra_forbidden" else detail["msg"]
        texts.append(f"{path}: {problem}".lstrip(": "))
    return "; ".join(texts)
