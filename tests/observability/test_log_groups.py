"""The groups of a log: they are always closed, never empty, and hide no warning."""

from __future__ import annotations

import contextlib
import logging
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_responses.observability.log_groups import MAX_LINES, LogGroup

log = logging.getLogger("airflow_provider_responses.tests")
others = logging.getLogger("tests.library")


class Lines(logging.Handler):
    """The lines of a log, in their order."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[tuple[int, str]] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append((record.levelno, record.getMessage()))


@contextlib.contextmanager
def captured():
    root, handler, level = logging.getLogger(), Lines(), logging.getLogger().level
    root.addHandler(handler)
    root.setLevel(logging.INFO)
    try:
        yield handler.lines
    finally:
        root.removeHandler(handler)
        root.setLevel(level)


def folded(lines):
    """Return the lines as Airflow's UI shows them: each with the name of its group, None outside."""
    found, stack = [], []
    for level, text in lines:
        if text.startswith("::group::"):
            assert not stack, "Airflow 3.0 and 2.11 do not nest groups"
            stack.append(text.removeprefix("::group::"))
            size = len(found)
        elif text == "::endgroup::":
            assert stack, "a group is closed that is not open"
            assert len(found) > size, "a group is empty"
            stack.pop()
        else:
            found.append((stack[-1] if stack else None, level, text))
    assert not stack, "a group is not closed"
    return found


STEPS = st.lists(
    st.sampled_from([logging.DEBUG, logging.INFO, logging.WARNING, logging.ERROR]) | st.just("raise"), max_size=200
)


@given(STEPS, st.booleans())
def test_any_log_has_closed_groups_and_no_warning_in_them(steps, of_package):
    logged = []
    with captured() as lines, contextlib.suppress(ZeroDivisionError), LogGroup("Sending"):
        for number, step in enumerate(steps):
            if step == "raise":
                raise ZeroDivisionError
            (log if of_package else others).log(step, "line %d", number)
            if step != logging.DEBUG:
                logged.append((step, f"line {number}"))
    shown = folded(lines)
    assert [(level, text) for _, level, text in shown] == logged
    assert all(group is None for group, level, _ in shown if level >= logging.WARNING)
    run = 0
    for group, level, _ in shown:
        visible = level >= logging.WARNING or (run == MAX_LINES and of_package)
        assert (group is None) == visible
        run = 0 if visible else run + 1


def test_groups_that_are_opened_again_have_a_number():
    with captured() as lines, LogGroup("Sending"):
        log.info("one")
        log.warning("two")
        log.info("three")
    assert [text for _, text in lines] == [
        "::group::Sending",
        "one",
        "::endgroup::",
        "two",
        "::group::Sending (2)",
        "three",
        "::endgroup::",
    ]


def test_a_long_group_shows_a_line_of_this_package_from_time_to_time():
    with captured() as lines, LogGroup("Sending"):
        for number in range(3 * MAX_LINES):
            others.info("request %d", number)
            log.info("progress %d", number)
    visible = [text for group, _, text in folded(lines) if group is None]
    assert len(visible) == 5
    assert all(text.startswith("progress") for text in visible)


def test_a_line_that_two_loggers_pass_on_counts_once(monkeypatch):
    """Airflow 2 moves the handlers of its logger of tasks to the root logger, and lets it propagate."""
    of_tasks = logging.getLogger("airflow.task")
    monkeypatch.setattr(of_tasks, "propagate", True)
    monkeypatch.setattr(of_tasks, "level", logging.INFO)
    with captured() as lines, LogGroup("Sending"):
        for number in range(MAX_LINES):
            of_tasks.info("line %d", number)
        log.info("after")
    assert [text for group, _, text in folded(lines) if group is None] == ["after"]


def test_lines_of_other_threads_are_in_the_group():
    with captured() as lines, LogGroup("Sending"):
        threads = [threading.Thread(target=log.log, args=(level, "line")) for level in [20, 30] * 20]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert sum(1 for _, _, text in folded(lines) if text == "line") == 40


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit, RuntimeError])
def test_no_handler_is_left_behind(error):
    before = [list(logging.getLogger(name).handlers) for name in (None, "airflow.task")]
    with pytest.raises(error), LogGroup("Sending"):
        raise error
    assert [list(logging.getLogger(name).handlers) for name in (None, "airflow.task")] == before


@pytest.fixture
def structured():
    """Structlog as Airflow 3 configures it, with loggers that hold the processors; its lines go to the root logger."""
    structlog = pytest.importorskip("structlog")
    before, was_configured = structlog.get_config(), structlog.is_configured()
    sink = logging.getLogger("tests.sink")

    def show(_logger, method, event):
        for handler in logging.getLogger().handlers:
            if isinstance(handler, Lines):
                handler.lines.append((getattr(logging, method.upper()), event["event"]))
        raise structlog.DropEvent

    structlog.configure(processors=[show], cache_logger_on_first_use=True, logger_factory=lambda *_: sink)
    yield structlog
    if was_configured:
        structlog.configure(**before)
    else:
        structlog.reset_defaults()


def test_warnings_of_structlog_are_outside_too(structured):
    of_hook = structured.get_logger("hook")
    with captured() as lines:
        of_hook.info("before")  # now the logger is cached
        with LogGroup("Reading"):
            log.info("one")
            of_hook.info("two")
            of_hook.warning("rows were dropped")
            of_hook.error("failed")
            log.info("three")
        of_hook.warning("after")
    assert [(group, text) for group, _, text in folded(lines)] == [
        (None, "before"),
        ("Reading", "one"),
        ("Reading", "two"),
        (None, "rows were dropped"),
        (None, "failed"),
        ("Reading (2)", "three"),
        (None, "after"),
    ]


def test_no_processor_is_left_behind(structured):
    before = list(structured.get_config()["processors"])
    with LogGroup("Sending"), LogGroup("Reading"):
        assert len(structured.get_config()["processors"]) == len(before) + 2
    assert structured.get_config()["processors"] == before
