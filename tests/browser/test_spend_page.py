"""The page "LLM spend" in Chromium, with canned JSON."""

from __future__ import annotations

import datetime
from urllib.parse import parse_qs, urlsplit

import pytest

from tests.browser import canned, scripts
from tests.browser.scripts import DAY_CHART, tab_stops, tab_to, text
from tests.browser.stub import PREFIX, Stub
from tools.pictures.browser import Page

pytestmark = pytest.mark.browser


def open_spend(tab: Page, server: Stub, search: str = "") -> None:
    tab.open(f"{server.address}/responses/spend{search}")


def shown(tab: Page, words: str) -> None:
    """Wait until the page shows some words."""
    tab.wait_for(f"document.querySelector('.responses-ui').innerText.includes({words!r})")


def caption(name: str) -> str:
    tables = "[...document.querySelectorAll('.responses-ui table')]"
    return f"{tables}.find((table) => table.caption.textContent === {name!r})"


def first_cells(tab: Page, name: str) -> list[str]:
    return list(tab.run(f"[...{caption(name)}.tBodies[0].rows].map((row) => row.cells[0].innerText.trim())"))


def test_10000_task_instances_are_a_chart_and_tables(tab, server):
    body = canned.spend(task_instances=10_000, missing={"without_usage": 12, "not_ours": 1, "earlier_attempts": True})
    server.spend = lambda _: (200, body)
    tab.before_scripts(scripts.FIRST_CHART)

    open_spend(tab, server)
    tab.wait_for("window.firstChart")

    print(f"\n10,000 task instances, canned: first chart after {tab.run('window.firstChart'):.0f} ms")
    page = text(tab)
    assert "10,000\nin 10,000 task instances" in page
    assert f"${body['totals']['cost']:.2f}" in page
    assert "12 finished task instances have no usage" in page
    assert "1 XCom named usage has another form" in page
    assert "Attempts before a task was last cleared are not counted" in page
    assert tab.run("document.querySelectorAll('[data-chart=days] .bar').length") == 30
    assert len(first_cells(tab, "Most expensive runs")) == 10
    tab.click("[...document.querySelectorAll('button')].find((b) => b.textContent.startsWith('Show all 24 rows'))")
    tab.wait_for(f"{caption('By task')}.tBodies[0].rows.length === 24")


def test_everything_comes_from_one_server_below_its_prefix(tab, server):
    server.spend = lambda _: (200, canned.spend())

    open_spend(tab, server)
    tab.wait_for(DAY_CHART)

    loaded = tab.run("performance.getEntriesByType('resource').map((entry) => entry.name)")
    paths = [urlsplit(each).path.removeprefix(PREFIX) for each in loaded if not each.startswith("data:")]
    assert sorted(paths) == [
        "/responses/api/spend",
        "/responses/static/responses.js",
        "/responses/static/standalone.js",
    ]
    links = tab.run("[...document.querySelectorAll('.responses-ui a')].map((a) => a.href)")
    assert f"{server.address}/dags/reviews" in links
    assert any(link.startswith(f"{server.address}/dags/catalogue/runs/scheduled__2026") for link in links)
    assert all(link.startswith(server.address) for link in links)


def test_filters_reach_the_server_the_address_and_the_csv(tab, server):
    server.spend = lambda _: (200, canned.spend())
    open_spend(tab, server, "?days=7&dag_id=reviews&task_id=task_1&model=")
    tab.wait_for(DAY_CHART)

    today = datetime.datetime.now(datetime.UTC).date()
    expected = {
        "start": [str(today - datetime.timedelta(6))],
        "end": [str(today)],
        "dag_id": ["reviews"],
        "task_id": ["task_1"],
        "model": [""],
    }
    assert server.requests == [("spend", expected)]
    csv = urlsplit(tab.run("document.querySelector('a[download]').href"))
    assert (csv.path, parse_qs(csv.query, keep_blank_values=True)) == (f"{PREFIX}/responses/api/spend.csv", expected)

    tab.click("document.querySelector('[aria-label=\"Remove the filter Task: task_1\"]')")
    tab.wait_for("location.search === '?days=7&dag_id=reviews&model='")
    tab.wait_for("document.querySelector('main[aria-busy=false]')")
    assert "task_id" not in server.requests[-1][1]

    tab.click("document.querySelector('[aria-label=\"Show only DAG catalogue\"]')")
    tab.wait_for("new URLSearchParams(location.search).get('dag_id') === 'catalogue'")
    tab.wait_for("document.querySelector('main[aria-busy=false]')")
    assert server.requests[-1][1]["dag_id"] == ["catalogue"]


def test_a_window_of_two_days_is_used_once_it_is_right(tab, server):
    server.spend = lambda _: (200, canned.spend())
    open_spend(tab, server, "?start=2026-11-01&end=2026-11-10")
    tab.wait_for(DAY_CHART)
    set_day = (
        "(() => {{ const field = document.querySelectorAll('input[type=date]')[{n}];"
        " Object.getOwnPropertyDescriptor(HTMLInputElement.prototype, 'value').set.call(field, '{day}');"
        " field.dispatchEvent(new Event('input', {{bubbles: true}})); }})()"
    )

    tab.run(set_day.format(n=0, day="2026-11-20"))
    shown(tab, "The first day is after the last day.")
    assert tab.run("location.search") == "?start=2026-11-01&end=2026-11-10"
    tab.run(set_day.format(n=1, day="2026-11-21"))
    tab.wait_for("location.search === '?start=2026-11-20&end=2026-11-21'")
    tab.wait_for("document.querySelector('main[aria-busy=false]')")

    asked = [(query["start"], query["end"]) for _, query in server.requests]
    assert asked == [(["2026-11-01"], ["2026-11-10"]), (["2026-11-20"], ["2026-11-21"])]


@pytest.mark.parametrize("mode", ["light", "dark"])
def test_light_and_dark_have_enough_contrast(tab, server, mode):
    body = canned.spend(task_instances=1000, missing={"without_usage": 12})
    body["by_day"][3] |= {"cost": None}
    server.spend = lambda _: (200, body)
    tab.prefer(mode)

    open_spend(tab, server, "?dag_id=reviews")
    tab.wait_for(DAY_CHART)

    assert tab.run("document.querySelector('.responses-ui').dataset.mode") == mode
    found = tab.run(scripts.LOW_CONTRAST)
    assert found["low"] == []
    assert found["checked"] > 200
    dark = tab.run("getComputedStyle(document.querySelector('.responses-ui')).backgroundColor") == "rgb(16, 18, 21)"
    assert dark == (mode == "dark")


def test_the_colours_follow_the_system_and_what_airflow_was_set_to(tab, server):
    server.spend = lambda _: (200, canned.spend())
    mode = "document.querySelector('.responses-ui').dataset.mode"
    open_spend(tab, server)
    tab.wait_for(f"{mode} === 'light'")

    tab.prefer("dark")
    tab.wait_for(f"{mode} === 'dark'")
    tab.run("localStorage.setItem('theme', 'light')")
    open_spend(tab, server)
    tab.wait_for(f"{mode} === 'light'")
    tab.run("document.documentElement.classList.add('dark')")
    tab.wait_for(f"{mode} === 'dark'")
    tab.run("localStorage.clear()")


def test_all_controls_are_reached_by_tab_with_a_visible_focus_and_a_name(tab, server):
    server.spend = lambda _: (200, canned.spend(task_instances=400))
    open_spend(tab, server)
    tab.wait_for(DAY_CHART)
    tab.run("document.body.focus()")

    stops = tab_stops(tab)

    # Of radio buttons, one is a stop.
    assert len(stops) == tab.run(scripts.FOCUSABLE) - 2
    assert [stop for stop in stops if not stop["name"] or not stop["visible"]] == []
    assert [stop["name"] for stop in stops[:3]] == ["Airflow", "Download CSV", "Refresh"]


def test_the_page_is_used_with_the_keyboard_alone(tab, server):
    server.spend = lambda _: (200, canned.spend())
    open_spend(tab, server)
    tab.wait_for(DAY_CHART)

    # A DAG is searched and chosen.
    tab_to(tab, "All DAGs")
    tab.press("Enter")
    tab.wait_for("document.activeElement.type === 'search'")
    tab.write("sup tick")
    tab.wait_for("document.querySelectorAll('.popover li').length === 1")
    tab.press("Tab")
    tab.press(" ")
    tab.wait_for("location.search === '?dag_id=support_tickets'")
    tab.press("Escape")
    tab.wait_for("!document.querySelector('.popover')")
    assert tab.run(scripts.FOCUSED)["name"].startswith("support_tickets")
    tab.wait_for("document.querySelector('main[aria-busy=false]')")
    assert server.requests[-1][1]["dag_id"] == ["support_tickets"]

    # Another figure.
    tab_to(tab, "Cost")
    tab.press("ArrowRight")
    tab.wait_for("new URLSearchParams(location.search).get('metric') === 'tokens'")
    shown(tab, "Tokens over time")

    # The days of the chart, which a screen reader reads as the value of a slider.
    tab_to(tab, "Tokens per day")
    tab.press("Home")
    value = "document.querySelector('[role=slider]').getAttribute('aria-valuetext')"
    tab.wait_for(f"{value}.startsWith('30 Oct 2026: ')")
    tab.press("ArrowRight")
    tab.wait_for(f"{value}.startsWith('31 Oct 2026: ')")
    assert tab.run(value) in text(tab, ".readout")

    # A table is sorted.
    before = first_cells(tab, "Most expensive runs")
    tab_to(tab, "Run")
    tab.press("Enter")
    tab.wait_for(f"{caption('Most expensive runs')}.querySelector('th').ariaSort === 'ascending'")
    after = first_cells(tab, "Most expensive runs")
    assert after == sorted(after)
    assert after != before


def test_a_list_closes_when_the_focus_leaves_it(tab, server):
    server.spend = lambda _: (200, canned.spend())
    open_spend(tab, server)
    tab.wait_for(DAY_CHART)

    tab_to(tab, "All models")
    tab.press("Enter")
    tab.wait_for("document.querySelectorAll('.popover input[type=checkbox]').length === 4")
    for _ in range(6):
        tab.press("Tab")

    tab.wait_for("!document.querySelector('.popover')")


def test_charts_and_tables_have_texts_for_those_who_do_not_see_them(tab, server):
    server.spend = lambda _: (200, canned.spend())
    open_spend(tab, server)
    tab.wait_for(DAY_CHART)

    bars = tab.run("[...document.querySelectorAll('svg[role=img]')].map((svg) => svg.getAttribute('aria-label'))")
    assert [label.partition(".")[0] for label in bars] == ["Cost by DAG", "Cost by model"]
    assert all(f"{dag}: $0.0" in bars[0] for dag in ("reviews", "support_tickets", "catalogue"))
    assert "unknown model: cost unknown" in bars[1]
    assert "arrow keys" in tab.run("document.querySelector('[role=slider]').getAttribute('aria-label')")
    assert tab.run(
        "[...document.querySelectorAll('table')].every((t) => t.caption && t.querySelector('th[scope=row]'))"
    )
    assert tab.run("document.documentElement.lang") == "en"
    assert tab.run("document.title") == "LLM spend - Airflow"
    assert tab.run("document.querySelectorAll('h1').length") == 1


def test_without_a_run_the_page_has_advice(tab, server):
    server.spend = lambda _: (200, canned.spend(task_instances=0, missing={"without_usage": 3}))

    open_spend(tab, server)
    shown(tab, "No run in this window has usage")

    page = text(tab)
    assert "Choose a longer window." in page
    assert "@task.responses" in page
    assert "3 finished task instances have no usage" in page
    assert not tab.run("document.querySelector('svg')")
    assert "$" not in page


def test_filters_that_match_nothing_can_be_cleared(tab, server):
    server.spend = lambda query: (200, canned.spend(task_instances=0 if "dag_id" in query else 50))
    open_spend(tab, server, "?dag_id=gone")
    shown(tab, "No usage matches these filters")

    tab.click("document.querySelector('.notice button')")

    tab.wait_for(DAY_CHART)
    assert tab.run("location.search") == ""


def test_an_unknown_cost_is_never_an_amount(tab, server):
    server.spend = lambda _: (200, canned.spend(priced=False))

    open_spend(tab, server)
    tab.wait_for(DAY_CHART)

    page = text(tab)
    assert "Cost unknown" in page
    assert "$" not in page
    assert "Requests over time" in page
    tab.click("document.querySelector('input[value=cost]')")
    tab.wait_for("document.querySelectorAll('[data-chart=days] .unknown').length === 30")
    assert "Unknown on 30 days." in text(tab, ".readout")
    assert "$0 " not in text(tab)
    assert "cost unknown" in tab.run("document.querySelector('[role=slider]').getAttribute('aria-valuetext')")


@pytest.mark.parametrize(
    ("status", "body", "words"),
    [
        (401, {"detail": "Not authenticated"}, ["You are not logged in", "Log in"]),
        (403, {"detail": "Forbidden"}, ["You may not see this", "Ask an administrator"]),
        (404, {"detail": "Not Found"}, ["This page has no data", "the plugin is loaded"]),
        (422, {"detail": "end is before start"}, ["HTTP 422", "end is before start"]),
        (500, {"detail": "secret"}, ["The api-server failed (HTTP 500)", "log of the api-server"]),
        (502, "<html>Bad gateway</html>", ["HTTP 502", "Try again"]),
        (200, "<html>Airflow</html>", ["did not return the data", "the plugin is loaded"]),
    ],
)
def test_an_error_has_its_cause_and_what_to_do(tab, server, status, body, words):
    server.spend = lambda _: (status, body)

    open_spend(tab, server)
    tab.wait_for("document.querySelector('[role=alert]')")

    page = text(tab, "[role=alert]")
    assert [word for word in words if word not in page] == []
    assert "secret" not in page


def test_the_login_leads_back_to_the_page_with_its_filters(tab, server):
    server.spend = lambda _: (401, {"detail": "Not authenticated"})

    open_spend(tab, server, "?dag_id=a%26b")
    tab.wait_for("document.querySelector('[role=alert] a')")

    link = urlsplit(tab.run("document.querySelector('[role=alert] a').href"))
    assert link.path == f"{PREFIX}/api/v2/auth/login"
    assert parse_qs(link.query) == {"next": [f"{server.address}/responses/spend?dag_id=a%26b"]}


def test_after_an_error_it_is_tried_again_and_figures_stay_meanwhile(tab, server):
    responses = [(500, {}), (200, canned.spend()), (503, {})]
    server.spend = lambda _: responses.pop(0)
    open_spend(tab, server)
    tab.wait_for("document.querySelector('[role=alert]')")

    tab.click("document.querySelector('[role=alert] button')")
    tab.wait_for(DAY_CHART)
    assert not tab.run("document.querySelector('[role=alert]')")
    tab.click("[...document.querySelectorAll('button')].find((button) => button.textContent === 'Refresh')")
    tab.wait_for("document.querySelector('[role=alert]')")

    assert "Below is what was read before." in text(tab, "[role=alert]")
    assert tab.run(f"!!{DAY_CHART}")


def test_names_are_text_whatever_is_in_them(tab, server):
    body = canned.spend(dags=canned.EVIL)
    for row, name in zip(body["by_model"], canned.EVIL, strict=True):
        row["model"] = name
    body["missing"] |= {"unreadable": 1, "backend": canned.EVIL[0]}
    server.spend = lambda _: (200, body)

    open_spend(tab, server)
    tab.wait_for(DAY_CHART)

    page = text(tab)
    assert [name for name in canned.EVIL if name not in page] == []
    assert tab.run("document.title") == "LLM spend - Airflow"
    assert tab.run("document.querySelectorAll('.responses-ui img, .responses-ui script').length") == 0
    assert tab.run("[...document.querySelectorAll('a')].every((a) => a.protocol === 'http:')")
    links = tab.run("[...document.querySelectorAll('tbody th a')].map((a) => new URL(a.href).pathname)")
    assert all(link.startswith(f"{PREFIX}/dags/") and "/../" not in link for link in links)
    assert f"{PREFIX}/dags/a%2F..%2Fb%3Fc%23d%20%252F%20%C3%A9%20%E9%9B%AA%20%E2%80%AEevil" in links


@pytest.mark.parametrize("width", [360, 768])
def test_a_narrow_window_scrolls_tables_and_not_the_page(tab, server, width):
    server.spend = lambda _: (200, canned.spend())
    tab.command("Emulation.setDeviceMetricsOverride", width=width, height=800, deviceScaleFactor=1, mobile=False)

    open_spend(tab, server)
    tab.wait_for(DAY_CHART)

    assert tab.run("document.documentElement.scrollWidth") <= width
