"""How evidence adds up to a probability, and what makes a table of weights."""

from __future__ import annotations

import copy
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sync.fellegi_sunter import Comparators, Levels, bits_of, check_known, read_table, score_of, written

Json = dict[str, Any]

#: Two pieces that tell of one thing, and one that tells of another.
TOLD: Json = {
    "version": "7",
    "reason": "for tests",
    "scales": {
        "thing": {
            "share": 1 / 65,  # six bits against it
            "alone": 0.9,
            "reason": "for tests",
            "pieces": [
                {
                    "name": "place",
                    "reason": "for tests",
                    "levels": {"here": [0.8, 0.1], "near": [0.15, 0.15], "far": [0.05, 0.75]},
                },
                {
                    "name": "name",
                    "facet": "who",
                    "reason": "for tests",
                    "levels": {"equal": [0.8, 0.05], "differs": [0.2, 0.95]},
                },
                {
                    "name": "phone",
                    "facet": "who",
                    "reason": "for tests",
                    "levels": {"equal": [0.96, 0.0001], "differs": [0.04, 0.9999]},
                },
            ],
        }
    },
}
SCALE = read_table(TOLD).scales["thing"]
#: Things that are compared in tests are their own levels.
COMPARATORS: Comparators[Levels] = {
    piece.name: lambda one, other, name=piece.name: one.get(name)
    for piece in SCALE.pieces  # type: ignore[misc]
}
ANY_LEVELS = st.fixed_dictionaries(
    {}, optional={piece.name: st.sampled_from(list(piece.levels)) for piece in SCALE.pieces}
)


def test_a_level_weighs_how_much_more_often_it_comes_up_among_the_same() -> None:
    assert SCALE.prior == -6.0
    assert SCALE.bits["place"] == {"here": 3.0, "near": 0.0, "far": -3.91}
    assert SCALE.bits["name"] == {"equal": 4.0, "differs": -2.25}


def test_no_piece_alone_carries_a_pair_over_what_the_scale_allows() -> None:
    assert SCALE.bits["phone"]["equal"] == 9.16  # and not 13.23
    assert 0.899 < score_of(SCALE.weight({"phone": "equal"})) <= 0.9


#: levels, bits beside the prior
WEIGHTS: list[tuple[Levels, float, dict[str, float]]] = [
    ({}, -6.0, {}),
    ({"place": "here"}, -3.0, {"place": 3.0}),
    ({"place": "here", "name": "equal"}, 1.0, {"place": 3.0, "name": 4.0}),
    # What tells the same thing twice counts once, by the strongest for it and the strongest against it.
    ({"name": "equal", "phone": "equal"}, 3.16, {"name": 0.0, "phone": 9.16}),
    ({"name": "differs", "phone": "equal"}, 0.91, {"name": -2.25, "phone": 9.16}),
    ({"name": "differs", "phone": "differs"}, -10.64, {"name": 0.0, "phone": -4.64}),
    ({"place": "far", "phone": "differs"}, -14.55, {"place": -3.91, "phone": -4.64}),
]


@pytest.mark.parametrize(("levels", "weight", "weights"), WEIGHTS)
def test_a_pair_weighs_what_its_evidence_adds_up_to(levels: Levels, weight: float, weights: dict[str, float]) -> None:
    assert SCALE.weight(levels) == weight
    assert SCALE.weights(levels) == weights


@given(levels=ANY_LEVELS)
def test_what_is_shown_adds_up_to_what_is_decided(levels: Levels) -> None:
    assert SCALE.weight(levels) == pytest.approx(SCALE.prior + sum(SCALE.weights(levels).values()))
    assert SCALE.levels(COMPARATORS, levels, levels) == levels


@given(levels=ANY_LEVELS, least=st.floats(-40, 40))
def test_giving_up_early_never_changes_the_answer(levels: Levels, least: float) -> None:
    weight = SCALE.weight(levels)
    told = SCALE.weight_or_none(COMPARATORS, levels, levels, least)
    assert told == (weight if weight >= least else None)


def test_what_can_not_be_enough_any_more_is_not_compared() -> None:
    def never(one: Levels, other: Levels) -> str | None:
        raise AssertionError("compared")

    comparators = {**COMPARATORS, "name": never, "phone": never}
    far: Levels = {"place": "far"}
    assert SCALE.weight_or_none(comparators, far, far, 0.0) is None
    with pytest.raises(AssertionError, match="compared"):
        SCALE.weight_or_none(comparators, far, far, -1.0)


@given(bits=st.floats(-50, 30))
def test_a_score_is_the_probability_of_a_weight(bits: float) -> None:
    assert score_of(bits) == pytest.approx(1 / (1 + 2**-bits), abs=1e-12)
    if -20 < bits < 20:
        assert bits_of(score_of(bits)) == pytest.approx(bits, abs=1e-6)


def test_no_weight_is_too_large_for_a_score() -> None:
    assert (score_of(-1e6), score_of(0.0), score_of(1e6)) == (0.0, 0.5, 1.0)
    assert score_of(-math.inf) == 0.0


def test_a_table_is_written_as_it_is_read() -> None:
    table = read_table(TOLD)
    again = read_table(written(table))
    assert again.version == "7"
    assert again.scales["thing"].bits == SCALE.bits
    assert written(again) == written(table)


def broken(change: Any) -> Json:
    told = copy.deepcopy(TOLD)
    change(told["scales"]["thing"])
    return told


BROKEN: list[tuple[str, Any]] = [
    ("no probability", lambda scale: scale.update(share=0)),
    ("no probability", lambda scale: scale.update(share=1)),
    ("no probability", lambda scale: scale.update(alone=1.5)),
    ("not a table", lambda scale: scale.pop("share")),
    ("not a table", lambda scale: scale.update(share="many")),
    ("not a table", lambda scale: scale["pieces"][0].pop("levels")),
    ("not a table", lambda scale: scale.update(pieces=None)),
    ("chances of place", lambda scale: scale["pieces"][0]["levels"].update(here=[0.5, 0.1])),
    ("chances of place", lambda scale: scale["pieces"][0]["levels"].update(here=[0.8, 0.0], near=[0.15, 0.25])),
    ("chances of place", lambda scale: scale["pieces"][0]["levels"].update(here=[0.8, float("nan")])),
    ("chances of place", lambda scale: scale["pieces"][0].update(levels={})),
    ("agrees more", lambda scale: scale["pieces"][0].update(levels={"far": [0.1, 0.9], "here": [0.9, 0.1]})),
    ("twice", lambda scale: scale["pieces"].append(scale["pieces"][2])),
    ("twice", lambda scale: scale["pieces"].insert(0, scale["pieces"].pop())),  # away from its facet
]


@pytest.mark.parametrize(("why", "change"), BROKEN)
def test_a_table_that_contradicts_itself_is_refused(why: str, change: Any) -> None:
    with pytest.raises(ValueError, match=why):
        read_table(broken(change))


@pytest.mark.parametrize("told", [None, [], "7", {}, {"version": "7"}, {"version": "7", "reason": "", "scales": [1]}])
def test_what_is_no_table_is_refused(told: Any) -> None:
    with pytest.raises(ValueError, match="not a table"):
        read_table(told)


def test_a_scale_has_exactly_the_levels_that_may_come_up() -> None:
    known: dict[str, tuple[str, ...]] = {piece.name: tuple(piece.levels) for piece in SCALE.pieces}
    check_known(SCALE, known)
    check_known(SCALE, known | {"more": ("than", "asked")})
    for wrong in (
        known | {"place": ("here",)},
        known | {"place": ("here", "near", "far", "off")},
        {"place": known["place"]},
    ):
        with pytest.raises(ValueError, match="has the levels"):
            check_known(SCALE, wrong)
