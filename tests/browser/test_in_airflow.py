"""The tab and the page in the UI of a real Airflow, whose database holds 10,000 task instances."""

from __future__ import annotations

import pytest

pytest.importorskip("airflow.api_fastapi.core_api.security", reason="Airflow's API server is of Airflow 3")

from airflow.providers.common.compat.version_compat import AIRFLOW_V_3_4_PLUS

from tests.browser import scripts
from tests.browser.airflow_server import ENRICHMENT, OTHER, SINGLE, UNPRICED, has_states, log_in
from tests.browser.auth_manager import HIDDEN, VISITOR
from tests.browser.scripts import DAY_CHART, tab_to, text
from tools.pictures.browser import Page

pytestmark = pytest.mark.browser

PAGE = "/plugin/responses-spend"
# Milliseconds.
LIMIT = 2000  # to the first chart
OWN_LIMIT = 1500  # of it, from the begin of the bundle on
BUSY = 1000  # Airflow's page alone takes longer only on a machine that does something else
ATTEMPTS = 12  # of which one has to be within the limit: the others may share the machine with other processes


def shown(tab: Page, words: str) -> None:
    tab.wait_for(f"document.querySelector('.responses-ui').innerText.includes({words!r})")


def test_10000_task_instances_are_a_chart_within_two_seconds(admin, airflow):
    admin.before_scripts(scripts.FIRST_CHART)
    times, own, api = [], [], []
    for _ in range(ATTEMPTS):
        admin.open(airflow.address + PAGE)
        admin.wait_for("window.firstChart")
        entry = "performance.getEntriesByType('resource').find(({{name}}) => name.includes({!r}))"
        times.append(round(admin.run("window.firstChart")))
        own.append(round(times[-1] - admin.run(entry.format("/responses.js") + ".startTime")))
        api.append(round(admin.run(entry.format("/api/spend") + ".duration")))
        if times[-1] < LIMIT and len(times) > 2:
            break

    print(f"\n10,000 task instances: first chart after {min(times)} ms (all: {times})")
    print(f"  of it, from the begin of the bundle on: {own}; of that, the request: {api}")
    page = text(admin)
    assert "LLM spend" in page
    assert "Cost over time" in page
    assert "10,0" in text(admin, ".cards")
    busy = min(time - part for time, part in zip(times, own, strict=True)) > BUSY
    assert min(own) < OWN_LIMIT
    assert busy or min(times) < LIMIT


@pytest.mark.parametrize("mode", ["light", "dark"])
def test_the_page_has_the_colours_of_airflow_and_enough_contrast(admin, airflow, mode):
    admin.prefer("dark" if mode == "light" else "light")  # what Airflow is set to counts
    admin.open(airflow.address + PAGE)
    admin.wait_for(DAY_CHART)
    admin.run(f"localStorage.setItem('theme', {mode!r})")

    admin.open(airflow.address + PAGE)
    admin.wait_for(DAY_CHART)

    assert admin.run("document.querySelector('.responses-ui').dataset.mode") == mode
    found = admin.run(scripts.LOW_CONTRAST)
    assert found["low"] == []
    assert found["checked"] > 200


def test_the_page_is_in_the_menu_and_used_with_the_keyboard(admin, airflow):
    admin.open(airflow.address + "/")
    browse = "[...document.querySelectorAll('nav button, [data-testid=nav-sidebar] button, button')]"
    admin.click(f"{browse}.find((button) => button.textContent.trim() === 'Browse')")
    item = "[...document.querySelectorAll('[role=menuitem]')].find((item) => item.textContent.trim() === 'LLM spend')"
    admin.click(item)
    admin.wait_for(DAY_CHART)
    assert admin.run("location.pathname") == PAGE

    tab_to(admin, "All DAGs")
    admin.press("Enter")
    admin.wait_for("document.activeElement.type === 'search'")
    admin.write("catalog")
    admin.wait_for("document.querySelectorAll('.popover li').length === 1")
    admin.press("Tab")
    admin.press(" ")
    admin.wait_for("location.search === '?dag_id=product_catalog'")
    admin.press("Escape")
    admin.wait_for("document.querySelector('.responses-ui [aria-busy=false]')")
    bars = "document.querySelector('svg[role=img]').getAttribute('aria-label')"
    admin.wait_for(f"{bars}.startsWith('Cost by DAG. product_catalog: $')")
    assert ";" not in admin.run(bars)

    tab_to(admin, "Cost per day")
    admin.press("Home")
    value = "document.querySelector('[role=slider]').getAttribute('aria-valuetext')"
    first = admin.run(value)
    admin.press("ArrowRight")
    admin.wait_for(f"{value} !== {first!r}")

    # What the address keeps is there after a reload.
    admin.open(admin.run("location.href"))
    admin.wait_for(DAY_CHART)
    assert admin.run("document.querySelector('.chip').textContent").startswith("DAG: product_catalog")


def test_a_window_without_runs_has_advice(admin, airflow):
    admin.open(airflow.address + PAGE + "?start=2020-01-01&end=2020-01-31")
    shown(admin, "No run in this window has usage")

    assert not admin.run("document.querySelector('.responses-ui svg')")


def test_a_dag_without_a_known_cost_has_no_amount(admin, airflow):
    admin.open(airflow.address + PAGE + f"?dag_id={UNPRICED}")
    admin.wait_for(DAY_CHART)

    page = text(admin)
    assert "Cost unknown" in page
    assert "$" not in page
    assert "Requests over time" in page


def test_links_lead_to_airflows_pages(admin, airflow):
    admin.open(airflow.address + PAGE)
    admin.wait_for(DAY_CHART)
    link = "document.querySelector('.responses-ui tbody a')"
    run = admin.run(f"{link}.textContent")

    admin.open(admin.run(f"{link}.href"))

    admin.wait_for(f"document.body.innerText.includes({run!r})")
    assert "404" not in admin.run("document.title")


def test_a_task_links_to_its_generation_and_before_airflow_3_4_to_its_page(admin, airflow):
    admin.open(f"{airflow.task_page(*SINGLE)}/details")
    link = "[...document.querySelectorAll('a')].find((a) => a.textContent.trim() === {!r})"
    response = link.format("Response")
    admin.wait_for(response)

    assert admin.run(f"{response}.href").startswith("https://openrouter.ai/")
    assert "gen-1790000000-abcDEF" in admin.run(f"{response}.href")
    if not AIRFLOW_V_3_4_PLUS:
        admin.wait_for(link.format("Responses"))
        admin.open(admin.run(f"{link.format('Responses')}.href"))
        admin.wait_for("document.querySelector('.responses-ui .facts')")
        assert "$0.000031" in text(admin)


def test_a_user_sees_nothing_of_a_dag_that_is_not_theirs(tab, airflow):
    log_in(tab, airflow, VISITOR)
    tab.open(airflow.address + PAGE)
    tab.wait_for(DAY_CHART)

    assert "product_catalog" in text(tab)
    assert HIDDEN not in tab.run("document.querySelector('.responses-ui').outerHTML")
    tab.open(airflow.address + PAGE + f"?dag_id={HIDDEN}")
    shown(tab, "No usage matches these filters")
    tab.open(airflow.standalone(*SINGLE))
    shown(tab, "No such task instance")


def test_without_a_login_the_page_leads_to_it_and_back(tab, airflow):
    tab.command("Network.clearBrowserCookies")
    tab.open(airflow.address + "/responses/spend?days=7")
    shown(tab, "You are not logged in")

    tab.open(tab.run("document.querySelector('.responses-ui [role=alert] a').href"))
    tab.wait_for("document.querySelector('[name=username]')")
    assert "responses" in tab.run("location.search")


def test_a_response_has_its_page_without_airflows_frame(admin, airflow):
    admin.open(airflow.standalone(*SINGLE))
    admin.wait_for("document.querySelector('.facts')")

    page = text(admin)
    assert "$0.000031" in page
    assert "RateLimitError (HTTP 429)" in page
    assert "openai/gpt-4o-mini-2024-07-18" in page
    link = "[...document.querySelectorAll('a')].find((a) => a.textContent.includes('single')).href"
    assert admin.run(link) == airflow.task_page(*SINGLE)


@pytest.mark.skipif(not has_states(), reason="the task state store is of Airflow 3.3")
def test_progress_of_an_enrichment_is_shown_while_it_runs(admin, airflow):
    admin.open(airflow.standalone(*ENRICHMENT))
    admin.wait_for("document.querySelector('[role=progressbar]')")

    assert admin.run("document.querySelector('[role=progressbar]').ariaValueNow") == "42"
    assert "4,200 of 10,000 requests (42%), 43 requests/s, about 2 min 17 s left" in text(admin)


@pytest.mark.skipif(not AIRFLOW_V_3_4_PLUS, reason="a tab for some operators is of Airflow 3.4")
def test_a_task_of_this_provider_has_the_tab_and_no_other_task(admin, airflow):
    tabs = "[...document.querySelectorAll('a')].filter((a) => a.pathname.endsWith('/plugin/responses'))"
    admin.open(airflow.task_page(*SINGLE))
    admin.click(f"{tabs}[0]")
    admin.wait_for("document.querySelector('.responses-ui .facts')")
    assert "$0.000031" in text(admin)
    assert admin.run("document.querySelectorAll('main main').length") == 0

    admin.open(airflow.task_page(*OTHER))
    admin.wait_for("document.body.innerText.includes('nothing') && document.querySelectorAll('a').length > 5")
    admin.wait_for("document.body.innerText.includes('Details')")
    assert admin.run(f"{tabs}.length") == 0
