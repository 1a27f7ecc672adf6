"""The outcomes of a batch's requests: results as JSON, bills, and the order in which the requests end."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from airflow_provider_responses.sandbox.http.batch_requests import BatchRequest, RequestError
from airflow_provider_responses.sandbox.http.call_handler import UNUSABLE_SCHEMA
from airflow_provider_responses.sandbox.http.delivery import bill_generation
from airflow_provider_responses.sandbox.http.http_errors import default_message
from airflow_provider_responses.sandbox.http.response_body import ServedRequest, response_body
from airflow_provider_responses.sandbox.http.routing import choose_model, served_name
from airflow_provider_responses.sandbox.model.generation import generate
from airflow_provider_responses.sandbox.model.tokens import count_input_tokens
from airflow_provider_responses.sandbox.state.batch_script import BatchStep
from airflow_provider_responses.sandbox.state.batches import Outcome
from airflow_provider_responses.sandbox.state.ledger import new_generation_id
from airflow_provider_responses.sandbox.state.prices import BATCH_SHARE, Bill
from airflow_provider_responses.sandbox.state.script import ERROR_TYPE_STATUS, Step

DRAWS: Final = 2**64
BAD_GATEWAY: Final = 502
ERROR_TYPES: Final = {status: error_type for error_type, status in reversed(ERROR_TYPE_STATUS.items())}
# Fields of a step that break the delivery of a response; in a batch, the request fails.
DELIVERY_FIELDS: Final = ("drop", "hang", "truncate", "cut", "stall", "malformed", "error_event")
#: Returns a result as JSON, given ``custom_id``, the generation's id, and either a response's body or an error.
MakeResult = Callable[[str, str, dict[str, Any] | None, RequestError | None], bytes]


@dataclass(frozen=True, kw_only=True)
class OutcomeMaker:
    """
    Makes the outcomes of the requests of one batch.

    :param is_openrouter: responses have OpenRouter's costs, at the price of a batch; otherwise they have none.
    :param draw: decides which requests fail, and the order in which they end.
    :param created_at: of the responses, in seconds since 1970.
    """

    is_openrouter: bool
    step: BatchStep
    failing: float
    draw: str
    created_at: int
    make_result: MakeResult

    def outcomes(self, requests: Sequence[BatchRequest]) -> tuple[Outcome, ...]:
        """Return the outcomes in the order in which the requests end."""
        made = [self._outcome(index, request) for index, request in enumerate(requests)]
        ended = [made[index] for index in sorted(range(len(made)), key=lambda index: self._drawn("order", index))]
        kept = ended[: max(0, len(ended) - self.step.missing)]
        repeated = [replace(outcome, bill=Bill(), extra=True) for outcome in ended[: self.step.repeated]]
        return (*kept, *repeated, *map(self._unknown, range(self.step.unknown)))

    def _unknown(self, number: int) -> Outcome:
        custom_id = f"unknown-{number}"
        error = request_error(500, "This request is not in the batch")
        result = self.make_result(custom_id, new_generation_id(), None, error)
        return Outcome(custom_id=custom_id, result=result, failed=True, extra=True)

    def _outcome(self, index: int, request: BatchRequest) -> Outcome:
        custom_id, generation_id = request.custom_id, new_generation_id()
        made = request.error or self._generate(index, request, generation_id)
        if isinstance(made, RequestError):
            return Outcome(
                custom_id=custom_id, result=self.make_result(custom_id, generation_id, None, made), failed=True
            )
        body, bill = made
        return Outcome(custom_id=custom_id, result=self.make_result(custom_id, generation_id, body, None), bill=bill)

    def _generate(
        self, index: int, request: BatchRequest, generation_id: str
    ) -> tuple[dict[str, Any], Bill] | RequestError:
        step = self._step(index, request.model)
        status = BAD_GATEWAY if any(getattr(step, name) for name in DELIVERY_FIELDS) else step.error_status
        if status is not None:
            return request_error(status, step.message, step.error_type)
        try:
            generation = generate(request.body, step.directions)
        except UNUSABLE_SCHEMA as error:
            message = f"no output can be generated for this request: {type(error).__name__}: {error}"
            return request_error(400, message)
        served = ServedRequest(
            body=request.body,
            model=served_name(request.model),
            generation_id=generation_id,
            created_at=self.created_at,
            priced=self.is_openrouter,
            stored=not self.is_openrouter,
        )
        full = bill_generation(served.model, generation, count_input_tokens(request.body), generation.text)
        bill = full.times(BATCH_SHARE if self.is_openrouter else 0.0)
        return response_body(served, generation, bill), bill

    def _step(self, index: int, model: str) -> Step:
        """Return how a response is changed: by the script, by chance, or by a ``sandbox/...`` model."""
        listed = [step for step in self.step.responses for _ in range(step.times)]
        if index < len(listed):
            return listed[index]
        if self._drawn("failing", index) < self.failing:
            return Step(status=500, message="The provider failed on this request")
        chosen = choose_model([model], open_names=not self.is_openrouter)
        return (chosen[1] if chosen else None) or Step()

    def _drawn(self, purpose: str, index: int) -> float:
        """Return a number from 0 to 1 that depends on ``draw``, the purpose and the request's index."""
        digest = hashlib.sha256(f"{self.draw}:{purpose}:{index}".encode()).digest()
        return int.from_bytes(digest[:8]) / DRAWS


def request_error(status: int, message: str | None = None, error_type: str | None = None) -> RequestError:
    """Return the error of a request with a status."""
    known = error_type or ERROR_TYPES.get(status) or ("server" if status >= 500 else "invalid_request")
    return RequestError(status=status, message=message or default_message(status), error_type=known)
