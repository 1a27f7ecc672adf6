"""The two drawings: the life of a request, and the flow of an enrichment."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Final

from .svg import AMBER, BLUE, GREEN, GREY, MUTED, RED, VIOLET, WHITE, Box, Drawing

WIDTH, HEIGHT = 1000, 448
LEFT, COLUMN, GAP, WIDE_GAP = 44, 160, 24, 52
PANEL_TOP, PANEL_HEIGHT, PADDING = 92, 136, 12
STEP_TOP, STEP_HEIGHT = 126, 90
FIRST_ROW, SECOND_ROW, CARD_HEIGHT = 254, 350, 70  # of the cards below the steps
BELOW_CENTRE: Final = 26  # how far below the centre of a step the arrows from its cards come back


@dataclass(frozen=True)
class Grid:
    """Five columns. Two panels lie behind the steps, and the second one begins after the wide gap."""

    columns_of_first_panel: int

    def x(self, column: int) -> float:
        """Return where a column begins."""
        wider = WIDE_GAP - GAP if column >= self.columns_of_first_panel else 0
        return LEFT + column * (COLUMN + GAP) + wider

    def step(self, column: int) -> Box:
        """Return the place of a step."""
        return Box(self.x(column), STEP_TOP, COLUMN, STEP_HEIGHT)

    def card(self, column: int, y: float, *, columns: int = 1) -> Box:
        """Return the place of a card, which may span columns."""
        return Box(self.x(column), y, self.x(column + columns - 1) + COLUMN - self.x(column), CARD_HEIGHT)

    def panel(self, first: int, last: int) -> Box:
        """Return the place of a panel behind steps; the second one has room for an arrow on its left."""
        x = self.x(first) - PADDING * (1 if first == 0 else 2)
        return Box(x, PANEL_TOP, self.x(last) + COLUMN + PADDING - x, PANEL_HEIGHT)


def request_life() -> str:
    """Return the drawing of one request, from the task's arguments to XCom."""
    drawing = Drawing(
        WIDTH,
        HEIGHT,
        title="The life of a request",
        description=(
            "A request is checked, gets an idempotency key and the response cache, and is sent with retries. The "
            "response is validated and goes to XCom as return_value, with usage beside it. From sending on, this "
            "happens on the worker, or in the triggerer with deferrable=True."
        ),
    )
    grid = Grid(2)
    drawing.heading(LEFT, "The life of a request", "One task: `ResponsesOperator` or `@task.responses`")
    drawing.panel(grid.panel(0, 1), "On a worker", GREY, x=grid.x(0))
    drawing.panel(grid.panel(2, 4), "On the same worker, or in the triggerer", VIOLET, x=grid.x(3))
    check, key, send, valid, xcom = (grid.step(column) for column in range(5))
    _server(drawing, send)
    _remark(drawing, xcom.right, ["With `deferrable=True`, steps 3 to 5", "hold no worker."])
    drawing.step(check, 1, "Check", ["fields, types, limits,", "`output_type`"], BLUE)
    drawing.step(key, 2, "Key, cache", ["idempotency key,", "response cache on"], BLUE)
    drawing.step(send, 3, "Send", ["waits and resends", "within one deadline"], BLUE)
    drawing.step(valid, 4, "Valid?", ["whole, not refused,", "matches `output_type`"], BLUE)
    drawing.step(xcom, 5, "XCom", ["`return_value`,", "`usage`"], GREEN)
    _join(drawing, check, key, send, valid, xcom)
    _outcomes_of_request(drawing, grid)
    return drawing.to_svg()


def _outcomes_of_request(drawing: Drawing, grid: Grid) -> None:
    """Draw the cards below the steps of a request."""
    check, key, send, valid, xcom = (grid.step(column) for column in range(5))
    first = [grid.card(column, FIRST_ROW) for column in range(5)]
    drawing.card(first[0], "Invalid request", ["The task fails at once.", "Nothing was sent."], RED)
    drawing.card(first[1], "The same bytes", ["A retry can be free, by", "OpenRouter's cache."], GREEN)
    drawing.card(first[2], "Temporary failure", ["429, 5XX, no network:", "resent after a wait."], AMBER)
    drawing.card(first[3], "Does not match", ["Requested again,", "once by default."], AMBER)
    drawing.card(first[4], "Cost is known", ["Tokens, cost, ids: also", "of a failed attempt."], GREEN)
    for step, card in ((check, first[0]), (send, first[2]), (valid, first[3])):
        drawing.arrow((step.middle, step.bottom), (card.middle, card.y))
    for step, card in ((key, first[1]), (xcom, first[4])):
        drawing.arrow((step.middle, step.bottom), (card.middle, card.y), head=False)
    _back(drawing, first[2], send, x=send.x - PADDING)
    _back(drawing, first[3], send, x=valid.x - PADDING)

    airflow = grid.card(0, SECOND_ROW, columns=2)
    gives_up, unusable, ends = (grid.card(column, SECOND_ROW) for column in (2, 3, 4))
    drawing.card(
        airflow,
        "Airflow's retries: a new attempt",
        ["It sends the same bytes. On OpenRouter, a response", "that was completed within the hour is free."],
        GREEN,
    )
    drawing.card(gives_up, "The call gives up", ["400 to 404: task fails.", "Others: its `retries`."], AMBER)
    drawing.card(unusable, "No valid response", ["Truncated, refused or", "still invalid: task fails."], RED)
    drawing.card(ends, "A worker ends it", ["after failures, and with", "callbacks or outlets."], VIOLET)
    for above, below in ((first[2], gives_up), (first[3], unusable)):
        drawing.arrow((above.middle, above.bottom), (below.middle, below.y))
    drawing.arrow((gives_up.x, gives_up.centre), (airflow.right, airflow.centre))
    drawing.arrow((airflow.x, airflow.centre), (18, airflow.centre), (18, check.centre), (check.x, check.centre))


def enrichment_flow() -> str:
    """Return the drawing of a table of requests, from its source to its result."""
    drawing = Drawing(
        WIDTH,
        HEIGHT,
        title="The flow of an enrichment",
        description=(
            "The rows of a source are indexed. The sender sends the rows that have no response, within limits. "
            "Responses are written as parts into output_path, and become a result in the order of the source, with a "
            "manifest. The next attempt reads the parts and sends only the rows that are left."
        ),
    )
    grid = Grid(3)
    drawing.heading(LEFT, "The flow of an enrichment", "One task: `ResponsesEnrichOperator`")
    drawing.panel(grid.panel(0, 2), "On a worker", GREY, x=grid.x(0))
    drawing.panel(grid.panel(3, 4), "`output_path`: local disk or object store", VIOLET, x=grid.x(3))
    source, index, sender, parts, result = (grid.step(column) for column in range(5))
    _server(drawing, sender)
    drawing.step(source, 1, "Source", ["a file, query or list,", "read once, in chunks"], BLUE)
    drawing.step(index, 2, "Index", ["an entry for each row,", "in a temporary file"], BLUE)
    drawing.step(sender, 3, "Sender", ["many at once, within", "your limits"], BLUE)
    drawing.step(parts, 4, "Parts", ["responses, written", "as they come"], BLUE)
    drawing.step(result, 5, "Result", ["rows in their order,", "`manifest.json`"], GREEN)
    _join(drawing, source, index, sender, parts, result)

    wrong, limits, table = (grid.card(column, FIRST_ROW) for column in (0, 2, 4))
    resume = grid.card(1, SECOND_ROW, columns=3)
    drawing.card(wrong, "Checked first", ["Duplicate key, missing", "column: the task fails."], RED)
    drawing.card(limits, "Limits", ["concurrency, rate,", "cost, failures, outage"], AMBER)
    drawing.card(table, "Database table", ["`load_to`: loaded in one", "transaction."], GREEN)
    drawing.card(
        resume,
        "Resume: the next attempt",
        [
            "The parts are read into the index. A row whose response is written there is",
            "never sent again, whatever stopped the task.",
        ],
        GREEN,
    )
    drawing.arrow((source.middle, source.bottom), (wrong.middle, wrong.y))
    drawing.arrow((sender.middle, sender.bottom), (limits.middle, limits.y), head=False)
    drawing.arrow((result.middle, result.bottom), (table.middle, table.y))
    drawing.arrow((parts.middle, parts.bottom), (parts.middle, resume.y))
    drawing.arrow((index.middle, resume.y), (index.middle, index.bottom))
    equal, killed = grid.card(0, SECOND_ROW), grid.card(4, SECOND_ROW)
    drawing.card(equal, "Identical requests", ["Sent once; all their", "rows get the response."], GREEN)
    drawing.card(killed, "No half results", ["Result and manifest are", "replaced as a whole."], GREEN)
    return drawing.to_svg()


def _join(drawing: Drawing, *steps: Box) -> None:
    """Draw an arrow from each step to the next one."""
    for left, right in pairwise(steps):
        drawing.arrow((left.right, left.centre), (right.x, right.centre))


def _server(drawing: Drawing, step: Box) -> None:
    """Draw the server above a step, with an arrow each way."""
    server = Box(step.middle - 104, 20, 208, 46)
    drawing.rectangle(server, WHITE, radius=23)
    drawing.text(server.middle, 40, "OpenRouter, OpenAI, vLLM", size=12.5, bold=True, anchor="middle")
    drawing.text(server.middle, 56, "`POST /responses`", size=12.5, colour=MUTED, anchor="middle")
    drawing.arrow((step.middle - 14, step.y), (step.middle - 14, server.bottom))
    drawing.arrow((step.middle + 14, server.bottom), (step.middle + 14, step.y))


def _remark(drawing: Drawing, right: float, lines: list[str]) -> None:
    """Write lines above a panel, against its right edge."""
    for number, line in enumerate(lines):
        drawing.text(right, 48 + 18 * number, line, size=12.5, colour=MUTED, anchor="end")


def _back(drawing: Drawing, card: Box, step: Box, *, x: float) -> None:
    """Draw an arrow from the left edge of a card up to the nearer edge of a step."""
    y = step.centre + BELOW_CENTRE
    drawing.arrow((card.x, card.centre), (x, card.centre), (x, y), (step.x if x < step.x else step.right, y))
