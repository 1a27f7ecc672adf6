"""
The table of the documentation that shows what is seen on which version of Airflow, and the tests of each of its cells.

``tests/observability/test_seen_where.py`` compares it with the page, and with a DAG run on the version of Airflow that
it runs on. ``tests/conftest.py`` fails a test of a cell that is skipped on the version of its cell.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

VERSIONS = ("2.11", "3.0", "3.1", "3.2", "3.3", "3.4")
MODES = ("worker", "deferred, a worker ends it", "deferred, the trigger ends it", "starts in the triggerer")

LINKS = "tests/links/test_task_instance.py"
ENRICHMENT_USAGE = "tests/operators/test_enrichment_usage.py"
GROUPS = "tests/operators/test_log_groups.py"
LINE = "tests/operators/test_log_line.py"
SPANS = "tests/observability/test_request_spans.py"
METRICS = "tests/observability/test_metrics.py"
BUDGET = "tests/operators/test_budget.py"
PARENTS = "tests/observability/test_parents.py::TestTasks"
PARTS_OF_PLUGIN = "tests/plugins/test_plugin.py::test_each_airflow_gets_the_parts_that_it_knows"
SERVED = "tests/plugins/test_plugin.py::test_airflow_serves_the_app_and_lists_the_pages"
USAGE = "tests/operators/test_usage.py"
RUN = "tests/observability/test_seen_where.py::test_a_dag_run_shows_what_the_table_states"
LINKS_OF_RUN = f"{LINKS}::test_every_task_of_a_run_has_its_links_also_if_it_failed"


@dataclass(frozen=True)
class Cell:
    """A cell: its text, and the tests that run where it applies."""

    text: str
    tests: tuple[str, ...]


def same(text: str, *tests: str) -> dict[str, Cell]:
    """Return the cells of a row that is the same on all versions."""
    return dict.fromkeys(VERSIONS, Cell(text, tests))


def since(
    version: str, text: str, *tests: str, before: str = "—", tests_before: tuple[str, ...] = ()
) -> dict[str, Cell]:
    """Return the cells of a row that differs before a version."""
    first = VERSIONS.index(version)
    cells = {it: Cell(before, tests_before or tests) for it in VERSIONS[:first]}
    return cells | {it: Cell(text, tests) for it in VERSIONS[first:]}


BY_VERSION: Mapping[str, Mapping[str, Cell]] = {
    "XCom `usage`, also of an attempt that fails": same("yes", RUN, f"{USAGE}::TestSends"),
    "cost of earlier attempts in `usage` of a request": since(
        "3.3",
        "yes",
        f"{USAGE}::TestFailedAttempts::test_the_cost_of_earlier_attempts_is_null_without_a_store",
        before="if cached",
    ),
    "cost of earlier attempts in `usage` of an enrichment": since(
        "3.3",
        "yes",
        f"{ENRICHMENT_USAGE}::test_a_retry_has_the_cost_of_an_attempt_that_was_killed_as_far_as_it_was_stored",
        before="unknown after a retry",
        tests_before=(f"{ENRICHMENT_USAGE}::test_the_cost_is_unknown_after_an_attempt_without_a_record",),
    ),
    'page "LLM spend"': since("3.1", "yes", PARTS_OF_PLUGIN, SERVED, tests_before=(PARTS_OF_PLUGIN,)),
    'tab or page "Responses" of a task instance': {
        **since("3.1", "page", PARTS_OF_PLUGIN, SERVED, tests_before=(PARTS_OF_PLUGIN,)),
        "3.4": Cell("tab", (PARTS_OF_PLUGIN, SERVED)),
    },
    'link "Response"': {
        **dict.fromkeys(VERSIONS[:5], Cell("generation", (RUN, LINKS_OF_RUN))),
        "3.4": Cell("generation, otherwise the tab", (RUN, LINKS_OF_RUN)),
    },
    'link "Responses"': {
        **dict.fromkeys(VERSIONS, Cell("—", (RUN, LINKS_OF_RUN))),
        **dict.fromkeys(VERSIONS[2:5], Cell("page", (RUN, LINKS_OF_RUN))),
    },
    'links "Result" and "Batch" of an enrichment': {
        **dict.fromkeys(VERSIONS[:2], Cell("—", (RUN, LINKS_OF_RUN))),
        **dict.fromkeys(VERSIONS[2:5], Cell("page, also while it runs", (RUN, LINKS_OF_RUN))),
        "3.4": Cell("tab", (RUN, LINKS_OF_RUN)),
    },
    "progress of an enrichment in the task state store": since("3.3", "yes", RUN),
    "progress as metrics": same(
        "yes", RUN, "tests/operators/test_enrich.py::TestRows::test_progress_is_sent_as_metrics"
    ),
    "`rows` and `cost` in the `extra` of asset events": same("yes", RUN),
    "log: one line per response": same("yes", RUN, f"{LINE}::test_each_response_has_one_line_with_all_fields"),
    "log: groups that the UI folds": {
        **same("yes", RUN, f"{GROUPS}::test_progress_is_in_a_group_and_the_counts_and_the_summary_are_outside"),
        "3.0": Cell("—", (RUN, f"{GROUPS}::test_progress_is_in_a_group_and_the_counts_and_the_summary_are_outside")),
    },
    "spans of requests and enrichments": same(
        "yes", RUN, f"{SPANS}::test_a_request_has_one_span_with_its_model_tokens_and_cost"
    ),
    "spans below those of Airflow's worker and triggerer": since(
        "3.2",
        "yes",
        "tests/observability/test_dags.py::test_a_request_on_a_worker_is_below_airflows_span_of_the_worker",
        "tests/observability/test_dags.py::test_a_request_in_the_triggerer_is_below_the_same_task",
        before="below the current span",
        tests_before=(f"{PARENTS}::test_a_deferred_request_is_a_child_of_the_span_that_deferred_it",),
    ),
    "metrics of requests": same("yes", RUN, f"{METRICS}::test_a_request_reports_its_tokens_cost_and_time_once"),
    "`max_cost`, over all attempts": since(
        "3.3",
        "yes",
        f"{BUDGET}::TestMaxCost::test_the_costs_of_earlier_attempts_count",
        before="over one attempt",
        tests_before=(f"{BUDGET}::TestRunCosts::test_a_warning_states_that_airflow_before_3_3_counts_one_attempt",),
    ),
    "`budget` of a DAG run": same("yes", f"{BUDGET}::test_the_budget_of_a_real_dag_run"),
    "estimate and preview": same(
        "yes",
        "tests/operators/test_estimate.py::test_an_estimate_sends_nothing_and_writes_nothing",
        "tests/operators/test_preview.py::test_a_preview_sends_its_rows_and_the_full_run_reuses_their_responses",
    ),
}


def modes(*texts: str, tests: tuple[str, ...]) -> dict[str, Cell]:
    return {mode: Cell(text, tests) for mode, text in zip(MODES, texts, strict=True)}


BY_MODE: Mapping[str, Mapping[str, Cell]] = {
    "XCom `usage`": modes("yes", "yes", "yes", "yes", tests=(f"{USAGE}::TestSends",)),
    "log: one line per response": modes(
        "yes", "yes", "yes", "yes", tests=(f"{LINE}::test_each_response_has_one_line_with_all_fields",)
    ),
    'link "Response"': modes(
        "generation",
        "generation",
        "3.4: tab",
        "—",
        tests=(
            LINKS_OF_RUN,
            f"{LINKS}::test_airflow_stores_the_links_of_a_deferred_task_also_when_its_worker_defers_it",
            f"{LINKS}::test_a_task_that_never_takes_a_worker_has_no_link",
        ),
    ),
    'link "Responses"': modes(
        "3.1 to 3.3: page",
        "3.1 to 3.3: page",
        "3.3: page",
        "—",
        tests=(
            LINKS_OF_RUN,
            f"{LINKS}::test_airflow_stores_the_links_of_a_deferred_task_also_when_its_worker_defers_it",
            f"{LINKS}::test_a_task_that_never_takes_a_worker_has_no_link",
        ),
    ),
    "span of the request": modes(
        "yes", "yes", "yes", "yes", tests=(f"{SPANS}::test_a_request_has_one_span_with_its_model_tokens_and_cost",)
    ),
    "metrics": modes(
        "yes", "yes", "yes", "yes", tests=(f"{METRICS}::test_a_request_reports_its_tokens_cost_and_time_once",)
    ),
    "metric `responses.queue_time`": modes(
        "—",
        "yes",
        "yes",
        "yes",
        tests=(f"{METRICS}::test_the_time_in_the_queue_of_the_triggerer_is_reported_where_there_is_one",),
    ),
    "`max_cost`, `budget`": modes(
        "yes",
        "yes",
        "yes",
        "a worker starts it",
        tests=(
            f"{BUDGET}::TestMaxCost::test_one_whose_highest_price_does_not_fit_is_refused_before_it_is_sent",
            f"{BUDGET}::TestBudget::test_a_task_with_a_budget_or_a_limit_never_starts_in_the_triggerer",
        ),
    ),
}


def as_markdown(first: str, columns: tuple[str, ...], rows: Mapping[str, Mapping[str, Cell]]) -> str:
    """Return a table as the page has it."""
    lines = [f"| {' | '.join((first, *columns))} |", "|---" * (len(columns) + 1) + "|"]
    lines += [f"| {' | '.join((name, *(cells[it].text for it in columns)))} |" for name, cells in rows.items()]
    return "\n".join(lines)


def needed_tests(version: str) -> frozenset[str]:
    """Return the tests that must run on a version of Airflow. All execution modes are there from 3.3 on."""
    cells = [row[version] for row in BY_VERSION.values()]
    if version in VERSIONS[4:]:
        cells += [cell for row in BY_MODE.values() for cell in row.values()]
    return frozenset(test for cell in cells for test in cell.tests)
