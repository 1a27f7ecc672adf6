"""
An imitation of OpenRouter on loopback, for demos and tests: ``python -m airflow_provider_responses.sandbox``.

It serves ``POST /api/v1/responses`` (JSON and SSE), ``GET /api/v1/key``, ``/generation?id=`` and ``/models``, and
batches (``/api/v1/batches``). No model runs: the output is made from the request alone, so the same request brings
the same output, and nothing leaves the machine. From Python::

    with Sandbox() as sandbox:
        sandbox.base_url                      # http://127.0.0.1:PORT/api/v1
        sandbox.script({"status": 429}, {})   # one step per call: first a rate limit, then an ordinary response
        sandbox.billed                        # the ledger's entries that cost money

Keys: any bearer key is accepted, except one that contains ``wrong`` or ``invalid`` (401). The sandbox stores only a
short hash of it. A key whose ``limit_remaining`` is 0 (``Sandbox.key``, ``PUT /_sandbox/key``) gets a 402.

Models: any ``vendor/name`` responds, for the price in ``state/prices.py`` or the default price; ``:free`` is free.
``missing/...`` and names without a slash are unknown (404). These misbehave on purpose:

====================================  ==================================================================
``sandbox/error-<status>``            the documented error of that status, for example ``sandbox/error-429``
``sandbox/guardrail-blocked``         403 with the patterns that a guardrail found
``sandbox/moderation``                403 with the reasons of a moderation
``sandbox/insufficient-permissions``  403 without details
``sandbox/failed-<error_type>``       a 200 that failed, for example ``sandbox/failed-rate_limit_exceeded``
``sandbox/incomplete``                a cut-off response; ``sandbox/incomplete-content_filter`` likewise
``sandbox/refusal``                   a refusal
``sandbox/invalid``                   a text that is no JSON, whatever format the request asks for
``sandbox/calls-<number>``            function calls, until the input holds that number of results
``sandbox/drop``, ``sandbox/hang``    no response: the connection is closed, or stays open in silence
``sandbox/truncate``, ``sandbox/cut``  half a response: ends cleanly, or by closing the connection
``sandbox/stall``                     half a response, and then silence
``sandbox/malformed``                 a response of which one event (or the body) is broken JSON
``sandbox/event-<kind>``              a stream that an event ends: ``error``, ``error-object``, ``response.error``
``sandbox/availability-<code>``       the error with that ``availability``: ``sandbox/availability-no_endpoints``
====================================  ==================================================================

Script (``Sandbox.script``, ``POST /_sandbox/script`` with a list): every call with an accepted key uses the next
step. The fields of a step are all optional; ``{}`` is an ordinary response:

- ``status`` (with ``kind``, ``message``, ``retry_after``, ``metadata``, ``availability``, ``error_type``),
  ``failed``, ``incomplete``, ``refusal``: as above; ``retry_after: null`` leaves the header out
- ``availability``: an object, sent as it is; or a code, which sets the object and the status
- ``drop``: ``true`` closes the connection before the model runs, ``"after"`` once the response was generated, billed
  and cached, so that only its delivery fails
- ``hang``: ``true`` sends nothing until the client leaves or the sandbox is reset
- ``truncate``, ``cut``: ``true`` ends a stream (or body) half way, cleanly or by closing the connection
- ``stall``: ``true`` sends nothing after the first half, until the client leaves or the sandbox is reset
- ``malformed``: ``true`` breaks the JSON of one event (or of the body) and goes on
- ``late``: ``true`` moves these four from half way to just before the end
- ``error_event``: ``error`` (flat), ``error-object`` or ``response.error`` half way; with ``error_type`` and
  ``message``. A call that is not streamed gets a 200 with nothing but ``error``
- ``calls``: a list of function calls, such as ``{"name": "charge", "arguments": {"order": 7}}`` (``arguments`` may be
  any text); or a number: functions are called until the input holds that number of results; then a text follows
- ``text``: the response's text; ``delay``: seconds before the response; ``chunk_delay``: seconds between deltas
- ``keep_alive``: seconds between signs of life while the call waits: comments, or white space before a body
- ``split``: bytes of each piece in which the body is sent
- ``times``: the number of calls that the step is for

Steps that act before the model (``status``, ``drop: true``, ``hang``) also act before the response cache.

Output: a sentence of the last message. With a ``json_schema``, an instance of the schema: strings are words and
sentences of the message, an enum is the value that the message names (or else ``other``), numbers are arbitrary.
Functions are called if the message names them or one matches it (``tool_choice`` takes precedence). A reasoning item
comes first if ``reasoning`` enables it. The output is cut off at ``max_output_tokens``.

Rate limits (``Sandbox(requests_per_minute=…, tokens_per_minute=…)``, ``Sandbox.limits``, ``PUT /_sandbox/limits``)
are per key, in minutes that begin with its first call. A call beyond them gets a 429 with an exact ``Retry-After``;
it uses no step, and no random fault happens to it.

Random faults (``Sandbox(seed=…, fault_rates={"429": 0.2})``, ``Sandbox.faults``, ``PUT /_sandbox/faults``) happen to
calls without a step. They depend on the seed, the body, and how often this body was sent before: the same requests
fail each time, whichever requests are sent between them. They are named by status, or like the ``sandbox/...`` models
without the vendor.

The ledger (``Sandbox.ledger``, ``GET /_sandbox/ledger``) has one entry per call. Outcomes: ``running``,
``generated``, ``cached``, ``error``, ``dropped`` (the client left), ``broken`` (a step broke the connection). A call
that is not streamed runs on, and is billed, when its client leaves. A stream stops; it is billed for its input and
the output so far, and is free before the first token. ``DELETE /_sandbox/ledger`` (``Sandbox.reset``) empties ledger,
response cache and script, restores the initial key, limits, faults and latency (``PUT /_sandbox/latency``), and
closes the calls that wait.

Batches (``POST``, ``GET`` and ``DELETE /api/v1/batches``) end after ``Sandbox(batch_seconds=…)`` instead of hours, and
cost half. ``Sandbox.batches`` has one entry for each, with its bill. ``Sandbox.batch_settings`` changes how they run,
and ``Sandbox.script_batches`` how single ones end; the page "Testing" lists the fields.

``--open`` (``dialect="open"``) imitates another server: no ``/key``, ``/generation``, response cache, cost or routing
metadata, and model names without a vendor. It stores responses: ``previous_response_id`` may name one that was
generated for the same key and not with ``store: false``; for any other it returns a 404
(``previous_response_not_found``). Its batches are OpenAI's: ``/files``, ``/batches`` and ``/batches/{id}/cancel``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from airflow_provider_responses.sandbox.http.server import Sandbox as Sandbox
    from airflow_provider_responses.sandbox.state.batches import BatchEntry as BatchEntry
    from airflow_provider_responses.sandbox.state.ledger import LedgerEntry as LedgerEntry

__all__ = ["BatchEntry", "LedgerEntry", "Sandbox"]


def __getattr__(name: str) -> Any:
    if name == "Sandbox":
        from airflow_provider_responses.sandbox.http.server import Sandbox

        return Sandbox
    if name == "LedgerEntry":
        from airflow_provider_responses.sandbox.state.ledger import LedgerEntry

        return LedgerEntry
    if name == "BatchEntry":
        from airflow_provider_responses.sandbox.state.batches import BatchEntry

        return BatchEntry
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
