"""
A sample of requests, and the total of all requests from those of the sample. No I/O and no clock.

The requests are sorted by size and divided into strata, of which each has the same share of the requests and of the
bytes together; two requests of each stratum are chosen at random. So a table that is sorted, or has a few long rows, is
sampled as well as any other. The total is that of a line through the sample (weighted least squares over the size); its
interval is Student's, from the differences within the strata.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final, NamedTuple

PER_STRATUM: Final = 2
CANDIDATES: Final = 8  # of a stratum: one more is chosen where another stratum has too few
MAX_LEVERAGE: Final = 0.8
ROUNDING: Final = 1e-6  # of a total, at least
# The 97.5 % quantiles of Student's distribution, for 1 to 10 degrees of freedom.
_T: Final = (12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228)


class Interval(NamedTuple):
    """A total with its 95 % interval."""

    estimate: float
    low: float
    high: float


@dataclass
class Stratum:
    """Requests of about the same size."""

    requests: int = 0
    candidates: list[tuple[bytes, int]] = field(default_factory=list)  # fingerprints and sizes, in random order
    chosen: int = 0

    def add(self, fingerprint: bytes, size: int, draw: random.Random) -> None:
        """Add a request, which becomes a candidate by chance."""
        self.requests += 1
        if len(self.candidates) < CANDIDATES:
            self.candidates.insert(draw.randint(0, len(self.candidates)), (fingerprint, size))
        elif (place := draw.randrange(self.requests)) < CANDIDATES:
            self.candidates[place] = (fingerprint, size)


@dataclass(frozen=True)
class Sample:
    """
    The chosen requests.

    :param strata: number of requests, and fingerprints of the chosen ones, by stratum.
    :param requests: number of all.
    :param size: bytes of all.
    :param sizes: of the chosen ones by fingerprint.
    """

    strata: list[tuple[int, list[bytes]]]
    requests: int
    size: int
    sizes: dict[bytes, int]


def choose(sorted_sizes: Iterable[tuple[bytes, int]], count: int, *, requests: int, size: int, seed: str) -> Sample:
    """
    Return a sample.

    :param sorted_sizes: fingerprint and size of each request, the smallest first.
    :param count: number of requests to choose.
    :param requests: number of all.
    :param size: of all.
    :param seed: the same seed chooses the same requests.
    """
    draw = random.Random(seed)  # noqa: S311  a sample, not a secret
    strata = [Stratum() for _ in range(max(1, min(count, requests) // PER_STRATUM))]
    passed = 0.0
    for fingerprint, bytes_ in sorted_sizes:
        share = (bytes_ / size + 1 / requests) / 2
        place = int((passed + share / 2) * len(strata))
        strata[min(place, len(strata) - 1)].add(fingerprint, bytes_, draw)
        passed += share
    _allocate(strata, min(count, requests))
    chosen = [(it.requests, it.candidates[: it.chosen]) for it in strata if it.requests]
    sizes = {fingerprint: bytes_ for _, found in chosen for fingerprint, bytes_ in found}
    return Sample([(number, [it for it, _ in found]) for number, found in chosen], requests, size, sizes)


def _allocate(strata: Sequence[Stratum], count: int) -> None:
    for stratum in strata:
        stratum.chosen = min(PER_STRATUM, len(stratum.candidates))
    for _ in range(count - sum(it.chosen for it in strata)):
        open_strata = [it for it in strata if it.chosen < len(it.candidates)]
        if not open_strata:
            return
        max(open_strata, key=lambda it: it.requests / max(it.chosen, 1)).chosen += 1


def extrapolate(sample: Sample, values: dict[bytes, float]) -> Interval | None:
    """
    Return the total of all requests, None without a value.

    :param values: of the chosen requests by fingerprint; those that are missing are unknown.
    """
    strata = _with_values(sample, values)
    points = [(sample.sizes[it], values[it], number / len(found)) for number, found in strata for it in found]
    if not points:
        return None
    intercept, slope = _line(points)
    total = intercept * sample.requests + slope * sample.size
    known = sum(values.values())
    rest = sample.requests - len(values)
    if not rest:
        return Interval(known, known, known)
    leverage = _leverage(points, is_level=not slope)
    variance, freedom = 0.0, -1 if slope else 0
    for number, found in strata:
        if (n := len(found)) < PER_STRATUM:
            continue
        # Divided by one minus the leverage: a line passes close to a point that is far from all others.
        errors = [
            (values[it] - intercept - slope * sample.sizes[it]) / (1 - leverage(sample.sizes[it], number / n))
            for it in found
        ]
        mean = sum(errors) / n
        spread = sum((error - mean) ** 2 for error in errors) / (n - 1)
        variance += number**2 * (1 - n / number) * spread / n
        freedom += n - 1 if number > n else 0
    # Equal costs leave no variance, but rounding.
    margin = max(_quantile(max(1, freedom)) * math.sqrt(variance), ROUNDING * abs(total))
    if len(points) < PER_STRATUM:
        margin = math.inf
    return Interval(max(total, known), max(total - margin, known), max(total + margin, known))


def _with_values(sample: Sample, values: dict[bytes, float]) -> list[tuple[int, list[bytes]]]:
    """Return the strata, merged where too few of their requests have a value."""
    merged: list[tuple[int, list[bytes]]] = []
    number, found = 0, list[bytes]()
    for more, chosen in sample.strata:
        number, found = number + more, [*found, *(it for it in chosen if it in values)]
        if len(found) >= min(PER_STRATUM, number):
            merged.append((number, found))
            number, found = 0, []
    if number and merged:
        last, others = merged.pop()
        merged.append((last + number, [*others, *found]))
    elif number:
        merged.append((number, found))
    return [(number, found) for number, found in merged if found]


def _line(points: Sequence[tuple[float, float, float]]) -> tuple[float, float]:
    """Return intercept and slope of the line through points, each with x, y and its weight."""
    weight = sum(w for _, _, w in points)
    mean_x = sum(w * x for x, _, w in points) / weight
    mean_y = sum(w * y for _, y, w in points) / weight
    spread = sum(w * (x - mean_x) ** 2 for x, _, w in points)
    if len(points) <= PER_STRATUM or spread <= 1e-9 * weight * mean_x**2:
        return mean_y, 0.0
    slope = sum(w * (x - mean_x) * (y - mean_y) for x, y, w in points) / spread
    return mean_y - slope * mean_x, slope


def _leverage(points: Sequence[tuple[float, float, float]], *, is_level: bool) -> Callable[[float, float], float]:
    """Return the function of the leverage of a point, from its x and its weight."""
    weight = sum(w for _, _, w in points)
    mean_x = sum(w * x for x, _, w in points) / weight
    spread = sum(w * (x - mean_x) ** 2 for x, _, w in points)

    def leverage(x: float, w: float) -> float:
        found = w / weight + (0.0 if is_level else w * (x - mean_x) ** 2 / spread)
        return min(found, MAX_LEVERAGE)

    return leverage


def _quantile(freedom: int) -> float:
    return _T[freedom - 1] if freedom <= len(_T) else 1.96 + 2.68 / freedom
