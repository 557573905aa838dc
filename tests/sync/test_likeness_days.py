"""Three days whose truth is known, so that a table of weights that got worse does not go unseen."""

from __future__ import annotations

from pathlib import Path

import pytest

from sync.resemblances import read_weights
from tests.bench.doubles import SAME, Day, days
from tests.bench.judged import Figures, judged

REFERENCE = Path(__file__).parents[1] / "demo" / "reference"
#: The weights were learned from days of other seeds.
SEED = "a test of the suite"
TOLD_FROM = 0.2


@pytest.fixture(scope="module")
def three_days() -> list[Day]:
    return list(days(SEED, 3, REFERENCE))


@pytest.fixture(scope="module")
def figures(three_days: list[Day]) -> Figures:
    """What the engine's own table makes of them."""
    found = Figures({"patrol": TOLD_FROM, "incident": TOLD_FROM, "warning": TOLD_FROM})
    for day in three_days:
        found.add(day, judged(day, read_weights()))
    return found


def test_the_same_seed_gives_the_same_days(three_days: list[Day]) -> None:
    again = list(days(SEED, 3, REFERENCE))
    assert [day.sendings for day in again] == [day.sendings for day in three_days]
    assert [day.told for day in again] == [day.told for day in three_days]
    other = next(days("another seed", 1, REFERENCE))
    assert other.sendings != three_days[0].sendings


def test_there_are_doubles_and_what_looks_like_them(figures: Figures) -> None:
    cases = {name for kind, name in figures.pairs if kind == "incident"}
    assert {*SAME, "walking-past-again", "passing-after-another", "two-stalls", "side-by-side"} <= cases


def test_what_is_the_same_is_found_and_proposed_and_little_else(figures: Figures) -> None:
    """The bounds lie just below what is measured: without time, place or who tells of a vendor they do not hold."""
    assert figures.share(figures.found) >= 0.99
    assert figures.share(figures.proposed) >= 0.925
    assert figures.wrong(figures.proposed, per=100) <= 0.5


def test_what_was_sent_again_is_grouped_and_nothing_else(figures: Figures) -> None:
    assert figures.share(figures.grouped, ["resubmission"]) >= 0.8
    assert figures.wrong(figures.grouped, per=10_000) == 0
