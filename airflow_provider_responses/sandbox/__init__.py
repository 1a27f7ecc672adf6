"""
An OpenRouter on loopback, for demos and for tests: ``python -m airflow_provider_responses.sandbox --port 8642``.

It speaks ``POST /api/v1/responses`` (JSON and SSE), ``GET /api/v1/key``, ``/generation?id=`` and ``/models``.
Answers are made from the request alone, so the same request brings the same answer; nothing leaves the machine.
From Python::

    with Sandbox() as sandbox:
        sandbox.base_url                      # http://127.0.0.1:PORT/api/v1
        sandbox.script({"status": 429}, {})   # one step per call: first a rate limit, then an answer
        sandbox.billed                        # the ledger's entries that cost money

Keys: any bearer key is accepted, except one that contains ``wrong`` or ``invalid`` (401). Only a short hash
of a key is kept. A key whose ``limit_remaining`` is 0 (``Sandbox.key``, ``PUT /_sandbox/key``) gets a 402.

Models: any ``vendor/name`` answers, for the price in ``prices.py`` or a default one; ``:free`` costs nothing.
``missing/...`` and names without a slash are unknown (404). These misbehave on purpose:

====================================  ==================================================================
``sandbox/error-<status>``            the documented error of that status, for example ``sandbox/error-429``
``sandbox/guardrail-blocked``         403 with the patterns that a guardrail found
``sandbox/moderation``                403 with the reasons of a moderation
``sandbox/insufficient-permissions``  403 without more
``sandbox/failed-<error_type>``       a 200 that failed, for example ``sandbox/failed-rate_limit_exceeded``
``sandbox/incomplete``                a cut-off answer; ``sandbox/incomplete-content_filter`` likewise
``sandbox/refusal``                   a refusal
``sandbox/drop``, ``sandbox/hang``    no answer: the connection is closed, or stays open in silence
``sandbox/truncate``, ``sandbox/cut``  half an answer: ends cleanly, or with its connection
``sandbox/stall``                     half an answer, and then silence
``sandbox/malformed``                 an answer of which one event (or the body) is broken JSON
``sandbox/event-<kind>``              a stream that an event ends: ``error``, ``error-object``, ``response.error``
``sandbox/availability-<code>``       the error with that ``availability``: ``sandbox/availability-no_endpoints``
====================================  ==================================================================

Script steps (``Sandbox.script``, ``POST /_sandbox/script`` with a list): every call with an accepted key takes
the next one. Keys of a step, all optional; ``{}`` is an ordinary answer:

- ``status`` (with ``kind``, ``message``, ``retry_after``, ``metadata``, ``availability``, ``error_type``),
  ``failed``, ``incomplete``, ``refusal``: as above; ``retry_after: null`` leaves the header out
- ``availability``: an object, sent as it is; or a code, which makes an object, and the status as well
- ``drop``: ``true`` closes the connection before the model runs, ``"after"`` once the answer was made, billed
  and kept, so that only its delivery fails
- ``hang``: ``true`` answers nothing until the client leaves or the sandbox is reset
- ``truncate``, ``cut``: ``true`` ends a stream (or body) half way, cleanly or by closing the connection
- ``stall``: ``true`` sends nothing after the first half, until the client leaves or the sandbox is reset
- ``malformed``: ``true`` breaks the JSON of one event (or of the body) and goes on
- ``late``: ``true`` lets these four happen just before the end instead of half way
- ``error_event``: ``error`` (flat), ``error-object`` or ``response.error`` half way; with ``error_type`` and
  ``message``. A call that is not streamed gets a 200 with nothing but ``error``
- ``text``: the answer's text; ``delay``: seconds before the answer; ``chunk_delay``: seconds between deltas
- ``keep_alive``: seconds between signs of life while the call waits: comments, or white space before a body
- ``split``: bytes of each piece in which the body is sent
- ``times``: how many calls the step is for

What acts before the model (``status``, ``drop: true``, ``hang``) acts before the response cache as well.

Answers call functions (those that the text names, or one that fits it; ``tool_choice`` decides before the text), begin
with a reasoning item when ``reasoning`` asks for one, and are cut off at ``max_output_tokens``.

Rate limits (``Sandbox(requests_per_minute=…, tokens_per_minute=…)``, ``Sandbox.limits``, ``PUT /_sandbox/limits``) are
per key, in minutes that begin with its first call. A call too many gets a 429 whose ``Retry-After`` is true, takes no
step and meets no fault.

Faults by chance (``Sandbox(seed=…, fault_rates={"429": 0.2})``, ``Sandbox.faults``, ``PUT /_sandbox/faults``) happen to
calls that no step is for. Seed, body, and how often this body came before decide: the same requests fail in each run,
whatever is sent between them. They are named by status, or like the ``sandbox/...`` models without the vendor.

The ledger (``Sandbox.ledger``, ``GET /_sandbox/ledger``) has one entry per call. Outcomes: ``running``, ``answered``,
``cached``, ``error``, ``dropped`` (the client left), ``broken`` (a step broke the connection). A call that
is not streamed runs on, and is billed, when its client leaves; a stream stops, and is billed for its input
and what was generated, or for nothing before the first token. ``DELETE /_sandbox/ledger`` (``Sandbox.reset``)
empties ledger, response cache and script, sets key, limits, faults and latency (``PUT /_sandbox/latency``) as they were
at the start, and closes calls that still wait.

``--open`` (``dialect="open"``) plays another server: no ``/key``, ``/generation``, response cache, cost or
routing metadata, and model names without a vendor. It stores responses: ``previous_response_id`` may name one that was
made for the same key and not with ``store: false``; of any other it returns a 404 (``previous_response_not_found``).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from airflow_provider_responses.sandbox.server import Sandbox as Sandbox
    from airflow_provider_responses.sandbox.state import LedgerEntry as LedgerEntry

__all__ = ["LedgerEntry", "Sandbox"]


def __getattr__(name: str) -> Any:
    if name == "Sandbox":
        from airflow_provider_responses.sandbox.server import Sandbox

        return Sandbox
    if name == "LedgerEntry":
        from airflow_provider_responses.sandbox.state import LedgerEntry

        return LedgerEntry
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
