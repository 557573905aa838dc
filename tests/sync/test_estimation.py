"""What a scale learns from pairs that people judged, and from pairs that nobody did."""

from __future__ import annotations

import math
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sync.estimation import Judged, Quality, estimate, quality
from sync.fellegi_sunter import Chance, Levels, Piece, Scale

LEVELS = ("agrees", "nearly", "differs")
#: What pairs are truly like: four independent pieces, and one pair in ten that is the same.
TRUTH = Scale(
    0.1,
    0.999,
    tuple(
        Piece(name, name, dict(zip(LEVELS, map(Chance, (0.8, 0.15, 0.05), others), strict=True)), "")
        for name, others in {
            "a": (0.05, 0.1, 0.85),
            "b": (0.1, 0.2, 0.7),
            "c": (0.02, 0.08, 0.9),
            "d": (0.3, 0.1, 0.6),
        }.items()
    ),
    "",
)
#: What is believed at first: no more than that agreement speaks for it.
GUESS = Scale(
    0.3,
    0.999,
    tuple(
        Piece(
            piece.name, piece.facet, dict(zip(LEVELS, map(Chance, (0.6, 0.2, 0.2), (0.3, 0.2, 0.5)), strict=True)), ""
        )
        for piece in TRUTH.pieces
    ),
    "",
)


def drawn(count: int, seed: int = 1) -> list[tuple[Levels, bool]]:
    """Pairs as they truly come, one piece in ten missing."""
    dice = Random(seed)
    pairs = []
    for _ in range(count):
        same = dice.random() < TRUTH.share
        levels = {
            piece.name: dice.choices(LEVELS, [chance.m if same else chance.u for chance in piece.levels.values()])[0]
            for piece in TRUTH.pieces
            if dice.random() < 0.9
        }
        pairs.append((levels, same))
    return pairs


PAIRS = drawn(20_000)


def unjudged(pairs: list[tuple[Levels, bool]]) -> list[Judged]:
    """The same pairs, as nobody has looked at them."""
    return [(levels, None) for levels, _ in pairs]


def chances(scale: Scale) -> list[float]:
    """All chances of a scale, in one list."""
    return [chance for piece in scale.pieces for level in piece.levels.values() for chance in level]


def test_judged_pairs_are_counted() -> None:
    learned = estimate(GUESS, PAIRS)
    assert learned.share == pytest.approx(TRUTH.share, abs=0.01)
    assert chances(learned) == pytest.approx(chances(TRUTH), abs=0.02)


def test_the_truth_is_found_without_a_judgement() -> None:
    learned = estimate(GUESS, unjudged(PAIRS))
    assert learned.share == pytest.approx(TRUTH.share, abs=0.01)
    assert chances(learned) == pytest.approx(chances(TRUTH), abs=0.04)


def test_what_was_learned_proposes_better_on_pairs_it_never_saw() -> None:
    fresh = drawn(5_000, seed=2)
    before, after, best = (quality(scale, fresh, 0.5) for scale in (GUESS, estimate(GUESS, unjudged(PAIRS)), TRUTH))
    assert before.f1 < after.f1
    assert after.f1 == pytest.approx(best.f1, abs=0.01)


def test_three_decisions_do_not_overthrow_a_table() -> None:
    learned = estimate(TRUTH, [], [({"a": "differs"}, True)] * 3)
    assert learned.bits["a"]["differs"] < TRUTH.bits["a"]["differs"] / 2 < 0
    assert learned.bits["b"] == TRUTH.bits["b"]
    assert learned.share == TRUTH.share


def test_a_level_that_never_came_up_keeps_a_chance() -> None:
    learned = estimate(TRUTH, [({"a": "agrees"}, True), ({"a": "differs"}, False)] * 1_000)
    assert all(0 < chance < 1 and math.isfinite(chance) for chance in chances(learned))


def test_pairs_that_were_chosen_for_their_looks_say_nothing_of_how_many_are_the_same() -> None:
    decisions = [pair for pair in PAIRS if pair[0].get("a") == "agrees"]
    assert estimate(GUESS, [], decisions).share == GUESS.share
    both = estimate(GUESS, unjudged(PAIRS), decisions)
    assert both.share == pytest.approx(TRUTH.share, abs=0.02)


def test_more_agreement_never_comes_to_weigh_less() -> None:
    learned = estimate(TRUTH, [({"a": "nearly"}, True)] * 50 + [({"a": "agrees"}, False)] * 50)
    bits = learned.bits["a"]
    assert bits["agrees"] == bits["nearly"] > bits["differs"]
    assert sum(chance.m for chance in learned.pieces[0].levels.values()) == pytest.approx(1)
    assert sum(chance.u for chance in learned.pieces[0].levels.values()) == pytest.approx(1)


def test_nothing_is_learned_from_nothing() -> None:
    learned = estimate(TRUTH, [])
    assert learned.share == pytest.approx(TRUTH.share)
    assert chances(learned) == pytest.approx(chances(TRUTH))


@given(
    st.lists(st.tuples(st.dictionaries(st.sampled_from("abcd"), st.sampled_from(LEVELS)), st.none() | st.booleans()))
)
def test_whatever_was_judged_a_scale_comes_of_it(pairs: list[Judged]) -> None:
    learned = estimate(TRUTH, pairs)
    assert 0 < learned.share < 1
    assert all(0 < chance < 1 for chance in chances(learned))
    for bits in learned.bits.values():
        assert list(bits.values()) == sorted(bits.values(), reverse=True)


def test_order_teaches_nothing() -> None:
    some = unjudged(PAIRS[:500]) + list(PAIRS[500:600])
    assert chances(estimate(GUESS, some[::-1])) == pytest.approx(chances(estimate(GUESS, some)))


def test_quality_counts_what_is_proposed() -> None:
    agree: Levels = dict.fromkeys("abcd", "agrees")
    differ: Levels = dict.fromkeys("abcd", "differs")
    told = quality(TRUTH, [(agree, True), (agree, True), (agree, False), (differ, True), (differ, False)], 0.5)
    assert told == Quality(right=2, wrong=1, missed=1)
    assert (told.precision, told.recall, told.f1) == (pytest.approx(2 / 3), pytest.approx(2 / 3), pytest.approx(2 / 3))


def test_quality_of_nothing_is_faultless() -> None:
    none = quality(TRUTH, [], 0.5)
    assert (none.precision, none.recall, none.f1) == (1.0, 1.0, 1.0)
    assert quality(TRUTH, [({}, True)], TRUTH.share - 0.01).right == 1  # a score at the threshold is proposed
