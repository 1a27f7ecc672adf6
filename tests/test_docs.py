"""The documentation is run: every Python block, every link, every name that it promises."""

from __future__ import annotations

import ast
import importlib
import inspect
import os
import re
import runpy
import shutil
import sys
import textwrap
import types
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from airflow.providers.common.compat import sdk
from airflow.providers.common.compat.version_compat import AIRFLOW_V_3_3_PLUS, get_base_airflow_version_tuple

from airflow_provider_responses import exceptions
from airflow_provider_responses.testing import invalid_requests

ROOT = Path(__file__).resolve().parent.parent
DOCS = ROOT / "docs"
PAGES = [ROOT / "README.md", *sorted(DOCS.glob("*.md"))]
MARKDOWN = [*PAGES, ROOT / "CHANGELOG.md", ROOT / "CONTRIBUTING.md", *ROOT.glob("findings/*.md")]
EXAMPLES = ROOT / "dags_examples"

NEWER = re.compile(r"# Airflow ([\d.]+) and later\n")  # such a block runs there only
BLOCK = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)
REGION = re.compile(r"^ *# \[start [\w ]+\]\n(.*?)^ *# \[end [\w ]+\]$", re.MULTILINE | re.DOTALL)
FENCED = re.compile(r"^(```+)[^\n]*\n.*?^\1$|<!--.*?-->", re.MULTILINE | re.DOTALL)
COMMENT = re.compile(r"<!--.*?-->", re.DOTALL)
HEADING = re.compile(r"^(#{1,6}) (.*)$", re.MULTILINE)
AUTODOC = re.compile(r"^\.\. (?:auto\w+|py:function|py:data):: (\S+)$", re.MULTILINE)
ERROR_ROW = re.compile(r"^\| `(\w+Error)` \|", re.MULTILINE)
LINK = re.compile(r"\]\((?!https?://)([^)#]*)(?:#([^)]*))?\)")
DOCUMENTED = (  # the modules with an `__all__`
    *("client", "content", "exceptions", "models", "sandbox", "testing"),
    *("decorators.responses", "hooks.responses", "operators.responses", "triggers.responses", "retry_policy"),
    "triggers.batches",
    *("tools", "operators.sql_tool", "operators.tool_loop"),
    *("decorators.enrich", "enrich", "operators.base", "operators.budget", "operators.enrich", "operators.sql"),
    "operators.escalation",
)
FROM_3_3 = frozenset() if AIRFLOW_V_3_3_PLUS else frozenset({"airflow_provider_responses.retry_policy"})


def blocks(page: Path) -> list[tuple[int, str]]:
    text = page.read_text()
    return [(text.count("\n", 0, match.start()) + 2, match[1]) for match in BLOCK.finditer(text)]


def without_blank_lines(code: str) -> str:
    """Return `code` as it is compared: a formatter puts other blank lines into a page than into a DAG."""
    return re.sub(r"\n\s*\n", "\n", code.strip())


def examples() -> dict[str, Path]:
    """Return the file of each region that an example marks for the documentation."""
    return {
        without_blank_lines(textwrap.dedent(region)): path
        for path in sorted(EXAMPLES.glob("*.py"))
        for region in REGION.findall(path.read_text())
    }


def prose(page: Path) -> str:
    """Return the text of a page without its code, and without comments, which hold directives for Sphinx."""
    return FENCED.sub("", page.read_text())


def anchors(page: Path) -> list[str]:
    """Return the anchors that a code host and Sphinx (`myst_heading_anchors = 3`) give to the headings of a page."""
    found: list[str] = []
    for level, title in HEADING.findall(prose(page)):
        if len(level) > 3:
            continue
        text = re.sub(r"\[([^\]]*)\]\([^)]*\)|[`*]", r"\1", title).strip()
        slug = re.sub(r"[^\w\- ]", "", text.lower()).replace(" ", "-")
        count = sum(re.fullmatch(rf"{re.escape(slug)}(-\d+)?", other) is not None for other in found)
        found.append(f"{slug}-{count}" if count else slug)
    return found


def _version(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in text.split("."))


@pytest.fixture
def dags_folder() -> Iterator[None]:
    """Put the example DAGs into the DAGs folder, like those of a user."""
    folder = Path(os.environ["AIRFLOW__CORE__DAGS_FOLDER"])
    copies = [shutil.copy(example, folder) for example in EXAMPLES.glob("*.py")]
    yield
    for copy in copies:
        Path(copy).unlink()


@pytest.fixture
def run_page(
    responses_sandbox, airflow_db, dags_folder, monkeypatch
) -> Callable[[Path], tuple[dict[str, Any], list[Any]]]:
    """Return a function that runs the blocks of a page as one module, and returns its names and its DAGs."""
    dags: list[Any] = []
    enter = sdk.DAG.__enter__

    def recorded(dag: Any) -> Any:
        dags.append(dag)
        return enter(dag)

    def run(page: Path) -> tuple[dict[str, Any], list[Any]]:
        module = types.ModuleType(f"docs_{page.stem}")
        monkeypatch.setitem(sys.modules, module.__name__, module)  # where pydantic looks names up
        names = vars(module)
        names["responses_sandbox"] = responses_sandbox
        marked = examples()
        for line, code in blocks(page):
            if (newer := NEWER.match(code)) and get_base_airflow_version_tuple() < _version(newer[1]):
                continue
            if path := marked.get(without_blank_lines(code)):
                # A part of an example: the whole of it runs, and later blocks may use its names.
                example = runpy.run_path(str(path)).items()
                names |= {name: value for name, value in example if not name.startswith("__")}
                continue
            # Blank lines in front, so that a traceback names the line of the page.
            exec(compile("\n" * (line - 1) + code, str(page), "exec"), names)
        return names, dags

    monkeypatch.setattr(sdk.DAG, "__enter__", recorded)
    for variable in ("AIRFLOW_CONN_BY_JSON", "AIRFLOW_CONN_BY_URI"):  # a block sets them, monkeypatch takes them back
        monkeypatch.setenv(variable, "")
    return run


@pytest.mark.parametrize("page", [page for page in PAGES if blocks(page)], ids=lambda page: page.name)
def test_python_blocks_run(page, run_page, responses_sandbox, request):
    names, dags = run_page(page)

    # All DAGs of a page are valid, except one that is named `wrong` to show an error.
    assert {dag.dag_id: problems for dag in dags if (problems := invalid_requests(dag)) and dag.dag_id != "wrong"} == {}
    for name, test in list(names.items()):
        if name.startswith("test_") and inspect.isfunction(test):
            responses_sandbox.reset()
            test(**{argument: request.getfixturevalue(argument) for argument in inspect.signature(test).parameters})


def test_the_quickstart_is_the_example_and_logs_and_prints_what_its_page_shows(
    run_dag, responses_sandbox, capfd, caplog
):
    page = (DOCS / "quickstart.md").read_text()
    example = EXAMPLES / "quickstart.py"
    (log,), (text, cost) = [match.splitlines() for match in re.findall(r"```text\n(.*?)```", page, re.DOTALL)]

    result = run_dag(example, "quickstart")

    whole = re.sub(r" *# \[(start|end) .*\]\n", "", example.read_text())
    assert without_blank_lines(whole) in map(without_blank_lines, (code for _, code in blocks(DOCS / "quickstart.md")))
    printed = capfd.readouterr().out + caplog.text
    assert f"{text}\n{cost}\n" in printed
    assert re.search(re.sub("…", r"\\S+", re.sub(r"0\\\.0 s", r"[\\d.]+ s", re.escape(log))), printed)
    assert result.xcom("haiku") == text


def test_every_marked_region_of_an_example_is_shown():
    shown = {without_blank_lines(code) for page in PAGES for _, code in blocks(page)}

    assert [(path.name, region) for region, path in examples().items() if region not in shown] == []


@pytest.mark.parametrize("page", MARKDOWN, ids=lambda page: page.name)
def test_links_lead_to_files_and_headings(page):
    for path, anchor in LINK.findall(prose(page)):
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), f"{page.name} links to {path}"
        if anchor:
            assert anchor in anchors(target), f"{page.name} links to {path}#{anchor}"


def test_code_hosts_and_sphinx_agree_on_anchors():
    slugs = pytest.importorskip("myst_parser.slugs")

    for page in PAGES:
        found: list[str] = []
        for level, title in HEADING.findall(prose(page)):
            if len(level) <= 3:
                found.append(slugs.unique_slug(slugs.github_slugify(re.sub(r"[`*]", "", title)), found))
        assert anchors(page) == found


@pytest.mark.parametrize("page", MARKDOWN, ids=lambda page: page.name)
def test_no_cell_of_a_table_is_longer_than_200_characters(page):
    rows = [line for line in prose(page).splitlines() if line.startswith("|")]
    cells = [cell.strip() for row in rows for cell in re.split(r"(?<!\\)\|", row)]
    texts = [re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", cell) for cell in cells]

    assert [text for text in texts if len(text) > 200] == []


@pytest.mark.parametrize("page", [page for page in PAGES[1:] if page.stem != "changelog"], ids=lambda page: page.name)
def test_each_page_begins_with_a_map_of_links(page):
    blocks = [block for block in page.read_text().split("\n\n") if not block.startswith("**")]
    first = next(block for block in blocks[1:] if block.startswith(("|", "1. ")))

    assert blocks.index(first) <= 2  # after the title and at most one paragraph
    assert len(LINK.findall("\n".join(blocks[1:5]))) > 2


@pytest.mark.parametrize("page", MARKDOWN, ids=lambda page: page.name)
def test_pages_show_no_directives_to_a_code_host(page):
    text = FENCED.sub(lambda found: found[0].splitlines()[0], page.read_text())

    assert re.findall(r"^`{3,}\{.*|\{\w+\}`", text, re.MULTILINE) == []


def test_every_page_is_in_the_table_of_contents():
    listed = re.findall(r"^([a-z-]+)$", (DOCS / "index.md").read_text(), re.MULTILINE)

    assert sorted(listed) == sorted({page.stem for page in DOCS.glob("*.md")} - {"index"})


@pytest.mark.parametrize("module", DOCUMENTED)
def test_every_public_name_is_in_the_reference(module):
    named = set(AUTODOC.findall((DOCS / "reference.md").read_text()))
    full = f"airflow_provider_responses.{module}"
    if full in FROM_3_3:
        pytest.skip("Airflow has retry policies from 3.3 on")
    public = {f"{full}.{name}" for name in importlib.import_module(full).__all__}

    assert public <= named


@pytest.mark.parametrize("module", DOCUMENTED)
def test_every_public_name_has_a_row_that_a_code_host_shows(module):
    if f"airflow_provider_responses.{module}" in FROM_3_3:
        pytest.skip("Airflow has retry policies from 3.3 on")
    page = COMMENT.sub("", (DOCS / "reference.md").read_text())
    names = importlib.import_module(f"airflow_provider_responses.{module}").__all__

    assert [name for name in names if f"`{name}` | `{module}`" not in page and module != "exceptions"] == []


def test_the_tree_of_errors_in_the_reference_is_that_of_the_classes():
    def tree(cls: type, depth: int = 0) -> Iterator[str]:
        yield f"{'  ' * depth}{cls.__name__}\n"
        for below in cls.__subclasses__():
            if below.__module__ == cls.__module__:
                yield from tree(below, depth + 1)

    shown = re.findall(r"```text\n(ResponsesError\n.*?)```", (DOCS / "reference.md").read_text(), re.DOTALL)
    assert shown == ["".join(tree(exceptions.ResponsesError))]


def test_every_module_with_public_names_is_checked():
    package = ROOT / "airflow_provider_responses"
    with_names = {
        ".".join(path.relative_to(package).with_suffix("").parts).removesuffix(".__init__")
        for path in package.rglob("*.py")
        if re.search(r"^__all__ =", path.read_text(), re.MULTILINE)
    }

    assert with_names == set(DOCUMENTED)


def test_every_name_in_the_reference_exists():
    for name in AUTODOC.findall((DOCS / "reference.md").read_text()):
        module, _, attribute = name.rpartition(".")
        if module in FROM_3_3:
            continue
        assert getattr(importlib.import_module(module), attribute).__doc__


def test_every_error_is_in_the_table():
    classes = {name for name in exceptions.__all__ if inspect.isclass(getattr(exceptions, name))}

    assert set(ERROR_ROW.findall((DOCS / "errors.md").read_text())) == classes


def test_the_table_of_errors_has_the_status_and_the_retries_of_each_class():
    for name in ERROR_ROW.findall((DOCS / "errors.md").read_text()):
        cls = getattr(exceptions, name)
        rows = [line for line in (DOCS / "errors.md").read_text().splitlines() if line.startswith(f"| `{name}` |")]
        status = rows[0].split("|")[2].strip()
        if status.isdecimal():
            assert exceptions.error_class_for_status(int(status)) == (cls, cls.default_retryable)
        if len(rows) == 1 and name != "ResponsesError":
            assert ("is left to `retries`" in rows[0]) == cls.default_retryable


def test_every_option_of_the_configuration_is_in_the_reference():
    from airflow_provider_responses.get_provider_info import get_provider_info

    page = (DOCS / "reference.md").read_text()
    for name, option in get_provider_info()["config"]["responses"]["options"].items():
        (row,) = [line for line in page.splitlines() if line.startswith(f"| `{name}` |")]
        assert row.split("|")[4].strip() == option["default"]


def test_every_setting_of_a_connection_is_on_its_page():
    from airflow_provider_responses.get_provider_info import get_provider_info

    page = (DOCS / "connection.md").read_text()
    fields = get_provider_info()["connection-types"][0]["conn-fields"]

    assert [name for name in fields if f"`{name}`" not in page] == []


BODY = re.compile(r"^## (?:(\d+)(?: ([\w-]+))?|A failure.*?): `(\w+)`$.*?^```json\n(.*?)^```", re.MULTILINE | re.DOTALL)


def test_the_error_bodies_become_the_errors_of_their_headings():
    from airflow_provider_responses.client.request_summary import RequestSummary
    from airflow_provider_responses.client.server_errors import error_from_response

    rows = BODY.findall((DOCS / "error-bodies.md").read_text())
    assert len(rows) >= 16
    for status, kind, name, body in rows:
        error = error_from_response(
            int(status), {}, body.encode(), request=RequestSummary(label="POST", is_openrouter=True)
        )
        assert type(error).__name__ == name
        assert getattr(error, "kind", "") == kind


def test_the_message_on_the_page_of_errors_is_that_of_the_class():
    from airflow_provider_responses.client.request_summary import RequestSummary
    from airflow_provider_responses.client.server_errors import error_from_response

    request = RequestSummary(label="POST https://llm.example.com/v1/responses (model small-1)")
    error = error_from_response(401, {}, b'{"error": {"message": "Incorrect API key provided"}}', request=request)
    assert f"```text\n{error}\n```" in (DOCS / "errors.md").read_text()


def test_every_field_of_a_request_is_in_the_guide():
    from airflow_provider_responses.models.fields import REQUEST_FIELDS

    rows = [line for line in (DOCS / "requests.md").read_text().splitlines() if line.startswith("| `")]
    named = {name for row in rows for name in re.findall(r"`(\w+)`", row.split("|")[1])}
    assert set(REQUEST_FIELDS) <= named


def test_every_column_limit_and_entry_of_an_enrichment_is_on_its_page(responses_sandbox, tmp_path):
    from dataclasses import fields

    from airflow_provider_responses.enrich import Limits
    from airflow_provider_responses.enrich.columns import META_COLUMNS
    from tests.enrich.jobs import enrich, table

    page = (DOCS / "enrich.md").read_text()
    manifest = enrich(responses_sandbox, tmp_path, table(1))
    names = [*META_COLUMNS, *(limit.name for limit in fields(Limits)), *manifest]
    assert [name for name in names if f"`{name}`" not in page] == []


def test_every_argument_of_an_enrichment_is_on_its_page():
    from airflow_provider_responses.operators.base import BaseResponsesOperator
    from airflow_provider_responses.operators.enrich import ResponsesEnrichOperator

    page = (DOCS / "enrich.md").read_text()
    own = {
        name
        for cls in (BaseResponsesOperator, ResponsesEnrichOperator)
        for name in inspect.signature(cls.__init__).parameters
        if name not in {"self", "kwargs"}
    }
    assert sorted(name for name in own if f"`{name}`" not in page) == []


def test_every_argument_about_batches_is_on_their_page_with_its_default():
    from dataclasses import fields

    from airflow_provider_responses.batch.options import BatchOptions

    page = (DOCS / "batches.md").read_text()
    for option in fields(BatchOptions):
        (row,) = [line for line in page.splitlines() if line.startswith(f"| `{option.name}` |")]
        if option.default is not None:
            assert row.split("|")[3].strip().strip('`"') == str(option.default)


def test_the_prices_and_minutes_on_the_page_about_batches_are_those_of_its_figures():
    from airflow_provider_responses.models.batch_sizes import MAX_BATCH_REQUESTS
    from airflow_provider_responses.sandbox.state.prices import BATCH_SHARE, price_of

    page = (DOCS / "batches.md").read_text()
    rows = re.findall(
        r"^\| ([\d,]+) \| (\d+) \| ([\d.]+) \| ([\d.]+) \| up to 24 \| (.+) \| (.+) \|$", page, re.MULTILINE
    )
    assert len(rows) == 5
    assert "**489**" in (DOCS / "speed.md").read_text()
    for number, batches, fast, slow, *dollars in rows:
        count = int(number.replace(",", ""))
        assert int(batches) == -(-count // MAX_BATCH_REQUESTS)
        assert (fast, slow) == (f"{count / 489 / 60:.1f}", f"{count / (64 / 2) / 60:.1f}")
        for model, shown in zip(("openai/gpt-4o-mini", "anthropic/claude-sonnet-4.5"), dollars, strict=True):
            price = price_of(model)
            live = count * (200 * price.input + 50 * price.output)
            for cost, text in zip((live, live * BATCH_SHARE), shown.split(", $"), strict=True):
                assert float(text.strip("$").replace(",", "")) == pytest.approx(cost, abs=0.0051)


def _texts_of_the_code() -> Iterator[str]:
    """Yield each text of the package, with `…` for a value in it."""
    for path in (ROOT / "airflow_provider_responses").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.JoinedStr):
                yield "".join(part.value if isinstance(part, ast.Constant) else "…" for part in node.values)
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                yield re.sub(r"%[.\d]*[a-z]", "…", node.value)


def test_messages_on_the_pages_about_tables_are_those_of_the_code():
    code = "\n".join(_texts_of_the_code())
    names = ("batches.md", "enrich-operations.md", "stores-and-databases.md")
    pages = "".join((DOCS / name).read_text() for name in names)
    tables = re.findall(r"^\| message in the \w+ .*\n((?:\|.*\n)+)", pages, re.MULTILINE)
    messages = [text for row in "".join(tables).splitlines() for text in re.findall(r"`([^`]+)`", row.split("|")[1])]
    assert len(messages) > 25

    for message in messages:
        parts = re.split(r"'?…'?|\d+", message)  # `…` is a value, and so is the status of an error
        assert re.search(".*".join(map(re.escape, parts)), code), message
