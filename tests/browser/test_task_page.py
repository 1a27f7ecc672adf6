"""The page of a task instance in Chromium, with canned JSON."""

from __future__ import annotations

import pytest

from tests.browser import canned, scripts
from tests.browser.scripts import tab_stops, text
from tests.browser.stub import Stub
from tools.pictures.browser import Page

pytestmark = pytest.mark.browser

SEARCH = "?dag_id=reviews&run_id=manual__1&task_id=classify"
NONE = "\u2013"
FACTS = "document.querySelector('.facts')"


def open_task(tab: Page, server: Stub, search: str = SEARCH) -> None:
    tab.open(f"{server.address}/responses/task{search}")


def facts(tab: Page) -> dict[str, str]:
    pairs = tab.run(
        "[...document.querySelectorAll('.facts > div')].map((d) => [...d.children].map((c) => c.innerText))"
    )
    return {name: value.replace("\n", " ") for name, value in pairs}


def rows(tab: Page, name: str) -> list[list[str]]:
    tables = "[...document.querySelectorAll('.responses-ui table')]"
    table = f"{tables}.find((table) => table.caption.textContent === {name!r})"
    return list(tab.run(f"[...{table}.tBodies[0].rows].map((row) => [...row.cells].map((cell) => cell.innerText))"))


def test_a_response_is_shown_with_its_cost_tokens_and_sends(tab, server):
    server.task = lambda _: (200, canned.task())

    open_task(tab, server)
    tab.wait_for(FACTS)

    shown = facts(tab)
    assert shown["Model"] == "openai/gpt-4o-mini"
    assert shown["Provider"] == "Azure"
    assert shown["Cost"] == "$0.000031"
    assert shown["Input tokens"] == "1,234 (1,024 from the prompt cache)"
    assert shown["Output tokens"] == "321"
    assert shown["Response from the cache"] == "no"
    assert rows(tab, "Sends of this attempt") == [
        ["1", "RateLimitError (HTTP 429)", "no", "2.5 s"],
        ["2", "ReadTimeoutError", "yes", "1 min 15 s"],
        ["3", "response", NONE, NONE],
    ]
    assert "Escalated to a larger model" not in shown
    page = text(tab)
    assert "The JSON of the response had to be repaired." in page
    assert "attempt 2" in page
    link = "[...document.querySelectorAll('.facts a')].at(-1)"
    assert tab.run(f"{link}.href") == canned.task()["generation_url"]
    assert tab.run(f"{link}.rel") == "noopener noreferrer"
    assert server.requests == [
        ("task", {"dag_id": ["reviews"], "run_id": ["manual__1"], "task_id": ["classify"], "map_index": ["-1"]})
    ]


def test_a_response_that_was_not_accepted_is_shown_with_its_model_and_the_reason(tab, server):
    refused = {"cause": {"error": "RefusalError", "status": None}, "ambiguous": False, "wait": 0.0}
    refused |= {"model": "openai/gpt-4o-mini", "escalated_to": "openai/gpt-4o"}
    last = {"cause": None, "ambiguous": False, "wait": None}
    usage = {**canned.USAGE, "model": "openai/gpt-4o", "sends": [refused, last], "escalated": 1}
    server.task = lambda _: (200, canned.task(usage=usage))

    open_task(tab, server)
    tab.wait_for(FACTS)

    assert facts(tab)["Escalated to a larger model"] == "once"
    what = "response of openai/gpt-4o-mini not accepted (RefusalError): escalated to openai/gpt-4o"
    assert rows(tab, "Sends of this attempt") == [["1", what, NONE, "0 s"], ["2", "response", NONE, NONE]]


def test_an_unknown_cost_or_token_count_is_unknown(tab, server):
    usage = {**canned.USAGE, "cost": None, "cost_this_attempt": None, "input_tokens": None, "cached": None}
    server.task = lambda _: (200, canned.task(usage=usage))

    open_task(tab, server)
    tab.wait_for(FACTS)

    shown = facts(tab)
    names = ("Cost", "Cost of this attempt", "Response from the cache")
    assert [shown[name] for name in names] == ["unknown"] * 3
    assert shown["Input tokens"].startswith("unknown")
    assert "$" not in text(tab)


def test_a_finished_enrichment_has_models_failures_batches_and_the_path_of_its_result(tab, server):
    server.task = lambda _: (200, canned.enrichment())

    open_task(tab, server)
    tab.wait_for(FACTS)

    shown = facts(tab)
    assert shown["Rows"] == "10,000"
    assert shown["Result"].startswith("s3://bucket/reviews/labels.parquet")
    assert shown["Cached"] == "4,000 (40%)"
    assert rows(tab, "Failures by kind") == [["RateLimitError", "12"], ["InvalidOutputError", "3"]]
    assert rows(tab, "Models")[1] == ["qwen/qwen3-32b", "unknown", "1,000", "400,000", "30,000", "0%", "0.4%"]
    assert rows(tab, "Batches") == [
        ["batch_01", "openai/gpt-4o-mini", "completed", "9,000"],
        ["batch_02", "qwen/qwen3-32b", "expired", "1,000"],
    ]
    tab.click("document.querySelector('summary')")
    tab.wait_for("document.querySelector('details[open]')")
    assert facts(tab)["limits"] == '{"concurrency":64}'


def test_a_path_is_copied_where_a_page_has_no_clipboard(tab, server):
    server.task = lambda _: (200, canned.enrichment())
    tab.before_scripts(
        "Object.defineProperty(navigator, 'clipboard', {value: undefined});"
        "document.addEventListener('copy', () => { window.copied = document.activeElement.value; });"
    )
    open_task(tab, server)
    tab.wait_for(FACTS)

    tab.click("document.querySelector('[aria-label=\"Copy the path of the result\"]')")

    tab.wait_for("window.copied === 's3://bucket/reviews/labels.parquet'")
    tab.wait_for("document.querySelector('.responses-ui').innerText.includes('Copied')")
    assert tab.run("document.activeElement.ariaLabel") == "Copy the path of the result"


def test_progress_is_read_again_until_the_task_has_ended(tab, server):
    bodies = [canned.enrichment(done=100), canned.enrichment(done=4200), canned.enrichment()]
    server.task = lambda _: (200, bodies[min(len(server.requests), 3) - 1])
    tab.before_scripts(scripts.TIMERS)
    open_task(tab, server)
    bar = "document.querySelector('[role=progressbar]')"
    tab.wait_for(f"{bar}.ariaValueNow === '1'")
    assert tab.run(f"{bar}.ariaValueText") == "100 of 10,000 requests (1%), 43 requests/s, about 3 min 53 s left"

    tab.wait_for("waits().length === 1")
    assert tab.run("waits()") == [3000]
    tab.run("fire()")
    tab.wait_for(f"{bar}.ariaValueNow === '42'")
    assert "No usage yet" in text(tab)
    tab.wait_for("waits().length === 1")
    tab.run("fire()")
    tab.wait_for(f"{bar}.ariaValueNow === '100'")

    assert tab.run("waits()") == []
    assert len(server.requests) == 3
    assert facts(tab)["Cost"] == "$0.55"


def test_figures_of_an_attempt_before_this_one_are_those_of_the_last_attempt(tab, server):
    body = canned.enrichment(done=4200)
    body["progress"] |= {"try_number": 1, "is_current": False}
    server.task = lambda _: (200, body)
    open_task(tab, server)
    tab.wait_for("document.querySelector('[role=progressbar]')")
    assert "Progress of the last attempt (attempt 1)" in text(tab)
    assert " left" not in text(tab)


def test_a_hidden_page_reads_nothing(tab, server):
    server.task = lambda _: (200, canned.enrichment(done=100 * len(server.requests)))
    tab.before_scripts(scripts.TIMERS)
    open_task(tab, server)
    tab.wait_for("waits().length === 1")

    tab.run("hide(true)")
    tab.wait_for("waits().length === 0")
    assert len(server.requests) == 1
    tab.run("hide(false)")
    tab.wait_for("waits().length === 1")
    tab.run("fire()")
    tab.wait_for("document.querySelector('.responses-ui').innerText.includes('200 of 10,000 requests')")


def test_a_server_that_fails_is_asked_less_often_and_one_that_refuses_not_again(tab, server):
    statuses = [200, 503, 503, 200, 404]
    server.task = lambda _: (statuses[len(server.requests) - 1], canned.enrichment(done=100))
    tab.before_scripts(scripts.TIMERS)
    open_task(tab, server)

    waits = []
    for number in range(1, 5):
        tab.wait_for("waits().length === 1")
        waits += tab.run("waits()")
        tab.run("fire()")
        tab.wait_for(
            f"performance.getEntriesByType('resource').filter((e) => e.name.includes('/api/')).length > {number}"
        )
    tab.wait_for("document.querySelector('.responses-ui').innerText.includes('No such task instance')")

    assert waits == [3000, 6000, 12000, 3000]
    assert tab.run("waits()") == []


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"missing": "none", "state": "running"}, "No usage yet"),
        ({"missing": "none", "state": None}, "It has not run yet."),
        ({"missing": "none", "state": "failed"}, "cleared or purged"),
        ({"missing": "not_ours"}, "has another form"),
        ({"missing": "unreadable", "missing_detail": "S3Backend: access denied"}, "S3Backend: access denied"),
    ],
)
def test_a_task_without_usage_has_a_reason(tab, server, changes, words):
    server.task = lambda _: (200, canned.task(usage=None, kind=None, prompt_fingerprint=None, **changes))

    open_task(tab, server)
    tab.wait_for("document.querySelector('.notice')")

    assert words in text(tab)


@pytest.mark.parametrize(
    ("status", "words"),
    [(401, "Log in"), (403, "Ask an administrator"), (404, "or you may not read"), (500, "Try again")],
)
def test_an_error_has_what_to_do(tab, server, status, words):
    server.task = lambda _: (status, {"detail": "x"})

    open_task(tab, server)
    tab.wait_for("document.querySelector('[role=alert]')")

    assert words in text(tab, "[role=alert]")


def test_an_address_without_a_task_instance_has_advice(tab, server):
    open_task(tab, server, "?dag_id=reviews")
    tab.wait_for("document.querySelector('[role=alert]')")

    assert "by the link “Responses”" in text(tab)
    assert server.requests == []


@pytest.mark.parametrize("mode", ["light", "dark"])
@pytest.mark.parametrize("body", [canned.task(), canned.enrichment(), canned.enrichment(done=10)])
def test_light_and_dark_have_enough_contrast(tab, server, mode, body):
    server.task = lambda _: (200, body)
    tab.prefer(mode)

    open_task(tab, server)
    tab.wait_for(FACTS)

    found = tab.run(scripts.LOW_CONTRAST)
    assert found["low"] == []
    assert found["checked"] > 15


def test_all_controls_are_reached_by_tab_with_a_visible_focus_and_a_name(tab, server):
    server.task = lambda _: (200, canned.enrichment())
    open_task(tab, server)
    tab.wait_for(FACTS)

    stops = tab_stops(tab)

    assert len(stops) == tab.run(scripts.FOCUSABLE)
    assert [stop for stop in stops if not stop["name"] or not stop["visible"]] == []


def test_texts_are_text_whatever_is_in_them(tab, server):
    usage = {
        **canned.USAGE,
        "model": canned.EVIL[0],
        "provider": canned.EVIL[1],
        "generation_id": canned.EVIL[4],
        "sends": [{"cause": {"error": canned.EVIL[3], "status": None}, "ambiguous": False, "wait": None}],
    }
    batches = [{"id": canned.EVIL[0], "model": None, "status": canned.EVIL[1], "requests": None, "url": canned.EVIL[2]}]
    body = canned.task(
        usage=usage, generation_url=canned.EVIL[2], result_path=canned.EVIL[2], batches=batches,
        manifest={canned.EVIL[0]: canned.EVIL[1]},
    )  # fmt: skip
    server.task = lambda _: (200, body)

    open_task(tab, server)
    tab.wait_for(FACTS)

    page = text(tab)
    assert [name for name in canned.EVIL if name not in page] == []
    assert tab.run("document.title") == "Responses of classify - Airflow"
    assert tab.run("[...document.querySelectorAll('a')].every((a) => a.protocol === 'http:')")
    assert tab.run("document.querySelectorAll('.responses-ui img, .responses-ui script').length") == 0
