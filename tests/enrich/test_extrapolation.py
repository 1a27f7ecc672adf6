"""The interval of a preview against the sandbox's bill of whole tables, most of which are not sent."""

from __future__ import annotations

import itertools
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_responses.enrich.extrapolation import choose, extrapolate
from airflow_provider_responses.sandbox.model.generation import Directions, generate
from airflow_provider_responses.sandbox.model.tokens import count_input_tokens, count_tokens
from airflow_provider_responses.sandbox.state.prices import make_bill

MODEL = "openai/gpt-4o-mini"
WORDS = [
    "the",
    "delivery",
    "was",
    "late",
    "and",
    "damaged",
    "but",
    "support",
    "answered",
    "kindly",
    "about",
    "refunds",
    "of",
    "my",
    "order",
    "yesterday",
]
TABLES = 100


def text(draw, words, sentence):
    found = []
    while len(found) < words:
        length = max(1, int(draw.gauss(sentence, sentence / 3)))
        found += [draw.choice(WORDS) for _ in range(min(length, words - len(found)))]
        found[-1] += "."
    return " ".join(found)


def lengths(kind, draw):
    while True:
        if kind == "even":
            yield draw.randint(5, 60)
        elif kind == "few_long":
            yield 1000 if draw.random() < 0.01 else draw.randint(5, 40)
        else:
            yield int(draw.lognormvariate(3.5, 1)) + 1


def table(kind, seed):
    """Return the texts of a table of one kind."""
    draw = random.Random(f"{kind} {seed}")  # noqa: S311  a table, not a secret
    texts = [text(draw, words, 12) for words in itertools.islice(lengths(kind, draw), draw.randint(150, 700))]
    if kind.startswith("sorted"):
        texts.sort(key=len, reverse=kind == "sorted_longest_first")
    return texts


def bill(prompt):
    """Return the cost of a request on the sandbox."""
    body = {"model": MODEL, "input": prompt}
    output = sum(count_tokens(part.content) for part in generate(body, Directions()).parts)
    return make_bill(MODEL, count_input_tokens(body), output).cost


def estimated(sizes, costs, count, seed="x"):
    """Return the sample and the interval of a table."""
    names = [str(number).encode() for number in range(len(sizes))]
    ordered = sorted(zip(names, sizes, strict=True), key=lambda it: it[1])
    sample = choose(ordered, count, requests=len(sizes), size=sum(sizes), seed=seed)
    return sample, extrapolate(sample, {it: costs[int(it)] for it in sample.sizes})


@pytest.mark.parametrize("kind", ["sorted_shortest_first", "sorted_longest_first", "even", "few_long", "shuffled"])
def test_the_interval_covers_the_bill_of_at_least_90_of_100_tables(kind):
    covered = 0
    for seed in range(TABLES):
        texts = table(kind, seed)
        costs = [bill(f"Mood of: {it}") for it in texts]
        sample, interval = estimated([len(it) + 60 for it in texts], costs, 20, str(seed))
        assert len(sample.sizes) == 20
        assert interval.high - interval.low < sum(costs)  # it is no excuse
        covered += interval.low <= sum(costs) <= interval.high
    assert covered >= 90


def test_a_few_long_rows_are_in_the_sample():
    sizes = [100] * 990 + [10_000] * 10
    sample, _ = estimated(sizes, [1.0] * 1000, 20)
    assert sum(size == 10_000 for size in sample.sizes.values()) >= 4  # by chance alone, it would be none


def test_costs_in_proportion_to_the_size_are_extrapolated_exactly():
    sizes = [100 + 7 * number for number in range(500)]
    _, interval = estimated(sizes, [3 + 0.5 * size for size in sizes], 10)
    assert interval.estimate == pytest.approx(sum(3 + 0.5 * size for size in sizes))
    assert interval.high - interval.low < 1e-4 * interval.estimate


def test_unknown_costs_are_left_out():
    sizes = [100] * 200
    sample, _ = estimated(sizes, [2.0] * 200, 20)
    known = dict.fromkeys(list(sample.sizes)[:11], 2.0)
    assert extrapolate(sample, known).estimate == pytest.approx(400)
    assert extrapolate(sample, {}) is None


def test_one_known_cost_has_no_upper_bound():
    sample, _ = estimated([100] * 50, [1.0] * 50, 2)
    interval = extrapolate(sample, {next(iter(sample.sizes)): 1.0})
    assert (interval.low, interval.high) == (1.0, float("inf"))


@given(st.lists(st.integers(1, 10_000), min_size=1, max_size=200), st.integers(2, 40), st.data())
def test_a_sample_has_the_number_of_requests_asked_for_and_bounds_what_is_known(sizes, count, data):
    costs = data.draw(st.lists(st.floats(0, 10), min_size=len(sizes), max_size=len(sizes)))
    sample, interval = estimated(sizes, costs, count)
    assert 0 < len(sample.sizes) <= count
    assert sum(number for number, _ in sample.strata) == len(sizes)
    known = sum(costs[int(it)] for it in sample.sizes)
    assert known - 1e-9 <= interval.low <= interval.estimate <= interval.high
    if len(sample.sizes) == len(sizes):
        assert interval == (known, known, known)
