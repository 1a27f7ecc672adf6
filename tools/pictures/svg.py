"""A few shapes of SVG: boxes, cards, panels, texts and arrows on a white, rounded background."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from typing import Final

SANS: Final = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Noto Sans', 'Helvetica Neue', Arial, sans-serif"
MONO: Final = "ui-monospace, SFMono-Regular, Menlo, Consolas, 'DejaVu Sans Mono', monospace"
INK, MUTED, LINE, EDGE = "#1f2937", "#596273", "#6b7280", "#d1d5db"

Point = tuple[float, float]


@dataclass(frozen=True)
class Colour:
    """A pale background with its border and the text that is legible on it."""

    fill: str
    stroke: str
    text: str


WHITE: Final = Colour("#ffffff", "#9ca3af", INK)
BLUE: Final = Colour("#eff6ff", "#3b82f6", "#1e40af")
GREEN: Final = Colour("#f0fdf4", "#22a355", "#166534")
AMBER: Final = Colour("#fffbeb", "#d9920b", "#92400e")
RED: Final = Colour("#fef2f2", "#dc4c4c", "#991b1b")
GREY: Final = Colour("#f6f7f9", "#e3e6ea", MUTED)
VIOLET: Final = Colour("#f7f5ff", "#d9d0fb", "#5b21b6")


@dataclass(frozen=True)
class Box:
    """A rectangle, and the points where arrows meet it."""

    x: float
    y: float
    width: float
    height: float

    @property
    def right(self) -> float:
        return self.x + self.width

    @property
    def bottom(self) -> float:
        return self.y + self.height

    @property
    def middle(self) -> float:
        return self.x + self.width / 2

    @property
    def centre(self) -> float:
        return self.y + self.height / 2


class Drawing:
    """
    One picture.

    :param title: names the picture for those who cannot see it.
    :param description: the same in a few sentences.
    """

    def __init__(self, width: int, height: int, *, title: str, description: str) -> None:
        self.width, self.height = width, height
        size = f'viewBox="0 0 {width} {height}" width="{width}" height="{height}"'
        head = 'viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" orient="auto"'
        self._parts = [
            f'<svg xmlns="http://www.w3.org/2000/svg" {size} role="img" font-family="{SANS}">',
            f"<title>{escape(title)}</title>",
            f"<desc>{escape(description)}</desc>",
            f'<defs><marker id="head" {head}><path d="M0 0.5 L8 4 L0 7.5 Z" fill="{LINE}"/></marker></defs>',
        ]
        self.rectangle(Box(0.5, 0.5, width - 1, height - 1), Colour("#ffffff", EDGE, INK), radius=14)

    def rectangle(self, box: Box, colour: Colour, *, radius: float = 8, dashed: bool = False) -> None:
        """Draw a rounded rectangle."""
        dashes = ' stroke-dasharray="5 4"' if dashed else ""
        self._parts.append(
            f'<rect x="{box.x:g}" y="{box.y:g}" width="{box.width:g}" height="{box.height:g}" rx="{radius:g}"'
            f' fill="{colour.fill}" stroke="{colour.stroke}"{dashes}/>'
        )

    def text(
        self,
        x: float,
        y: float,
        text: str,
        *,
        size: float = 13,
        colour: str = INK,
        bold: bool = False,
        anchor: str = "start",
    ) -> None:
        """Write one line whose base line is at `y`; what stands between backticks is code."""
        pieces = []
        for number, piece in enumerate(text.split("`")):
            code = f'<tspan font-family="{MONO}" font-size="{size - 1:g}">{escape(piece)}</tspan>'
            pieces.append(code if number % 2 else escape(piece))
        weight = ' font-weight="600"' if bold else ""
        self._parts.append(
            f'<text x="{x:g}" y="{y:g}" font-size="{size:g}" fill="{colour}" text-anchor="{anchor}"{weight}>'
            f"{''.join(pieces)}</text>"
        )

    def heading(self, x: float, title: str, subtitle: str) -> None:
        """Write the picture's name, and below it what it is about."""
        self.text(x, 44, title, size=19, bold=True)
        self.text(x, 66, subtitle, size=12.5, colour=MUTED)

    def panel(self, box: Box, label: str, colour: Colour, *, x: float) -> None:
        """Draw the area behind steps; its label begins at `x`."""
        self.rectangle(box, colour, radius=10)
        self.text(x, box.y + 22, label, size=12.5, colour=colour.text, bold=True)

    def step(self, box: Box, number: int | None, heading: str, lines: Sequence[str], colour: Colour = BLUE) -> None:
        """Draw a box of the main path: a number in a circle, a heading and lines of text."""
        self.rectangle(box, Colour("#ffffff", colour.stroke, colour.text))
        x = box.x + 14
        if number is not None:
            self._parts.append(f'<circle cx="{x + 9:g}" cy="{box.y + 22:g}" r="10" fill="{colour.stroke}"/>')
            self.text(x + 9, box.y + 26.5, str(number), size=12.5, colour="#ffffff", bold=True, anchor="middle")
            x += 27
        self.text(x, box.y + 27, heading, size=15, colour=colour.text, bold=True)
        for index, line in enumerate(lines):
            self.text(box.x + 14, box.y + 51 + 18 * index, line, size=12.5)

    def card(self, box: Box, heading: str, lines: Sequence[str], colour: Colour) -> None:
        """Draw a card that says what comes of a step."""
        self.rectangle(box, colour)
        self.text(box.x + 12, box.y + 21, heading, size=12.5, colour=colour.text, bold=True)
        for index, line in enumerate(lines):
            self.text(box.x + 12, box.y + 40 + 16.5 * index, line, size=12)

    def arrow(self, *points: Point, dashed: bool = False, head: bool = True) -> None:
        """Draw an arrow along points, with rounded corners."""
        dashes = ' stroke-dasharray="5 4"' if dashed else ""
        end = ' marker-end="url(#head)"' if head else ""
        self._parts.append(f'<path d="{_path(points)}" fill="none" stroke="{LINE}" stroke-width="1.5"{dashes}{end}/>')

    def to_svg(self) -> str:
        """Return the whole file."""
        return "\n".join([*self._parts, "</svg>", ""])


def _path(points: Sequence[Point], radius: float = 7) -> str:
    """Return a path along points whose lines are horizontal or vertical, with rounded corners."""
    first, *rest = points
    steps = [f"M{first[0]:g} {first[1]:g}"]
    for before, corner, after in zip(points, rest, rest[1:], strict=False):
        start, end = _towards(corner, before, radius), _towards(corner, after, radius)
        steps.append(f"L{start[0]:g} {start[1]:g} Q{corner[0]:g} {corner[1]:g} {end[0]:g} {end[1]:g}")
    last = points[-1]
    return " ".join([*steps, f"L{last[0]:g} {last[1]:g}"])


def _towards(corner: Point, other: Point, radius: float) -> Point:
    """Return the point at this distance from a corner in the direction of another point."""
    x, y = other[0] - corner[0], other[1] - corner[1]
    length = max(abs(x), abs(y)) or 1.0
    share = min(radius, length / 2) / length
    return corner[0] + x * share, corner[1] + y * share
