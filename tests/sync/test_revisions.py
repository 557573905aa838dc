"""What an amend does to a record that has moved on, and which counters never arrived."""

from __future__ import annotations

import itertools
import uuid
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sync.revisions import (
    Conflict,
    Merged,
    Revision,
    amend,
    count_of,
    holes,
    merge,
    merge_ranges,
    owed,
    state_of,
    without,
)

NONE: dict[str, Any] = {}
#: name, base, live, wanted, what becomes of it: the fields applied, or those in conflict
THREE_WAY: list[tuple[str, dict[str, Any], dict[str, Any], dict[str, Any], Any]] = [
    ("nothing in between", {"a": 1}, {"a": 1}, {"a": 2}, {"a": 2}),
    ("another field in between", {"a": 1, "b": 1}, {"a": 1, "b": 2}, {"a": 2}, {"a": 2}),
    ("the same value on both sides", {"a": 1}, {"a": 2}, {"a": 2}, {"a": 2}),
    ("two values for one field", {"a": 1}, {"a": 2}, {"a": 3}, [("a", 1, 2, 3)]),
    ("back to what it was, by the phone alone", {"a": 1}, {"a": 1}, {"a": 1}, {"a": 1}),
    ("as it was, while the server moved on", {"a": 1}, {"a": 2}, {"a": 1}, [("a", 1, 2, 1)]),
    (
        "one of two fields clashes: nothing applies",
        {"a": 1, "b": 1},
        {"a": 2, "b": 1},
        {"a": 3, "b": 3},
        [("a", 1, 2, 3)],
    ),
    ("both clash", {}, {"a": 2, "b": 2}, {"a": 3, "b": 3}, [("a", None, 2, 3), ("b", None, 2, 3)]),
    ("a field nobody had", {}, {}, {"a": 1}, {"a": 1}),
    ("a field the server had first", {}, {"a": 1}, {"a": 1}, {"a": 1}),
    ("emptied here, changed there", {"a": 1}, {"a": 2}, {"a": None}, [("a", 1, 2, None)]),
    ("emptied on both sides", {"a": 1}, {"a": None}, {"a": None}, {"a": None}),
    ("never there and empty are alike", {}, {"a": None}, {"a": 5}, {"a": 5}),
    ("lists are values", {"a": [1]}, {"a": [1, 2]}, {"a": [1, 3]}, [("a", [1], [1, 2], [1, 3])]),
    ("nothing wanted", {"a": 1}, {"a": 2}, {}, {}),
]


@pytest.mark.parametrize(("name", "base", "live", "wanted", "becomes"), THREE_WAY, ids=[case[0] for case in THREE_WAY])
def test_three_sides_are_merged_field_by_field(name: str, base: Any, live: Any, wanted: Any, becomes: Any) -> None:
    expected = Conflict(tuple(becomes)) if isinstance(becomes, list) else Merged(becomes, alongside=True)
    assert merge(base, live, wanted, moved=True) == expected


def test_whether_something_came_in_between_is_told() -> None:
    assert merge({}, {}, {"a": 1}, moved=False) == Merged({"a": 1}, alongside=False)


_values = st.integers(0, 3) | st.none()
_states = st.dictionaries(st.sampled_from("abcd"), _values)


@given(_states, _states, _states)
def test_two_phones_with_disjoint_fields_reach_the_same_state_in_either_order(base: Any, one: Any, other: Any) -> None:
    other = {field: value for field, value in other.items() if field not in one}
    reached = []
    for first, second in ((one, other), (other, one)):
        live = base | first
        merged = merge(base, live, second, moved=True)
        assert isinstance(merged, Merged)
        reached.append(live | merged.fields)
    assert reached[0] == reached[1] == base | one | other


@given(_states, _states, _states)
def test_no_value_of_the_server_is_ever_lost(base: Any, since: Any, wanted: Any) -> None:
    live = base | since
    merged = merge(base, live, wanted, moved=True)
    changed = {field for field in live if live[field] != base.get(field)}
    lost = {field for field in wanted if field in changed and live[field] != wanted[field]}
    assert ({field for field, *_ in merged.fields} == lost) if isinstance(merged, Conflict) else not lost


@given(_states, _states, _states)
def test_who_comes_first_decides_who_conflicts_but_not_whether(base: Any, one: Any, other: Any) -> None:
    there, back = (merge(base, base | a, b, moved=True) for a, b in ((one, other), (other, one)))
    moved_one = {field for field in one if one[field] != base.get(field)}
    moved_other = {field for field in other if other[field] != base.get(field)}
    if set(one) == moved_one and set(other) == moved_other:  # setting a field to what it was is no change for the first
        assert isinstance(there, Conflict) == isinstance(back, Conflict)


PHONE, PARTNER = uuid.UUID(int=1), uuid.UUID(int=2)


@given(st.lists(_states, max_size=6), st.randoms())
def test_a_state_is_folded_from_its_versions_whatever_their_order(changes: Any, random: Any) -> None:
    history = [Revision(number, fields, PHONE, number) for number, fields in enumerate(changes, 1)]
    random.shuffle(history)
    expected: dict[str, Any] = {}
    for fields in changes:
        expected |= fields
    assert state_of(history) == expected


@given(st.lists(_states, min_size=1, max_size=5), st.randoms())
def test_a_phones_own_amends_never_conflict_and_its_last_word_stands_in_any_order(changes: Any, random: Any) -> None:
    expected: dict[str, Any] = {}
    for fields in changes:
        expected |= fields
    arriving = [Revision(0, fields, PHONE, n) for n, fields in enumerate(changes, 2)]
    random.shuffle(arriving)
    history = [Revision(1, {}, PHONE, 1)]
    for wanted in arriving:
        merged = amend(history, 1, wanted)
        assert isinstance(merged, Merged)
        assert not merged.alongside
        history.append(replace(wanted, version=len(history) + 1))
    assert state_of(history) == expected


def test_what_comes_late_undoes_nobodys_later_word() -> None:
    """The fold says what the record says: the first phone's tenth operation comes after its eleventh and another's."""
    history = [Revision(1, {"a": 0}, PHONE, 1), Revision(2, {"a": 2}, PHONE, 11), Revision(3, {"a": 3}, PARTNER, 1)]
    late = Revision(4, {"a": 1}, PHONE, 10)
    assert amend(history, 1, late) == Merged({}, alongside=True)
    assert state_of([*history, late]) == {"a": 3}


def test_anothers_change_since_the_base_still_conflicts() -> None:
    history = [Revision(1, {"a": 1}, PHONE, 1), Revision(2, {"a": 2}, PARTNER, 7), Revision(3, {"b": 1}, PHONE, 2)]
    assert amend(history, 1, Revision(0, {"a": 3}, PHONE, 3)) == Conflict((("a", 1, 2, 3),))
    assert amend(history, 2, Revision(0, {"a": 3}, PHONE, 3)) == Merged({"a": 3}, alongside=False)


# ---------------------------------------------------------------- counters

HOLES: list[tuple[list[list[int]], list[list[int]], int, list[list[int]]]] = [
    ([], [], 1, []),
    ([], [], 2, [[1, 1]]),
    ([[1, 3]], [], 4, []),
    ([[1, 3]], [], 5, [[4, 4]]),
    ([[2, 3]], [], 4, [[1, 1]]),
    ([[1, 1], [3, 3]], [], 4, [[2, 2]]),
    ([[1, 1], [3, 3]], [[2, 2]], 4, []),
    ([[1, 1]], [[2, 10]], 5, []),
    ([[1, 1]], [[8, 10]], 5, [[2, 4]]),
    ([[5, 9]], [], 3, [[1, 2]]),
    ([], [], 2**53 - 1, [[1, 2**53 - 2]]),
]


@pytest.mark.parametrize(("received", "unsent", "next_n", "missing"), HOLES)
def test_counters_used_and_neither_received_nor_declared_are_holes(
    received: Any, unsent: Any, next_n: int, missing: Any
) -> None:
    assert holes(received, unsent, next_n) == missing


_ranges = st.lists(st.tuples(st.integers(1, 30), st.integers(0, 8)).map(lambda pair: [pair[0], sum(pair)]), max_size=8)


def _set(ranges: Any) -> set[int]:
    return set(itertools.chain.from_iterable(range(first, last + 1) for first, last in ranges))


def _well_formed(ranges: list[list[int]]) -> bool:
    """In order, none empty, and no two that could be one."""
    return all(first <= last for first, last in ranges) and all(
        one[1] + 1 < other[0] for one, other in itertools.pairwise(ranges)
    )


@settings(max_examples=300)
@given(_ranges)
def test_merged_ranges_hold_the_same_counters(ranges: Any) -> None:
    merged = merge_ranges(ranges)
    assert _set(merged) == _set(ranges)
    assert _well_formed(merged)
    assert merge_ranges(merged) == merged


@settings(max_examples=300)
@given(_ranges, _ranges, st.integers(1, 45))
def test_holes_are_what_is_left(received: Any, unsent: Any, next_n: int) -> None:
    missing = holes(merge_ranges(received), unsent, next_n)
    assert _set(missing) == set(range(1, next_n)) - _set(received) - _set(unsent)
    assert _well_formed(missing)


@settings(max_examples=300)
@given(_ranges, _ranges)
def test_what_is_cut_out_is_gone_and_all_else_is_left(ranges: Any, taken: Any) -> None:
    rest = without(ranges, taken)
    assert _set(rest) == _set(ranges) - _set(taken)
    assert count_of(rest) == len(_set(rest))
    assert _well_formed(rest)


@settings(max_examples=300)
@given(_ranges, _ranges, _ranges, st.integers(1, 45))
def test_what_is_owed_is_either_a_hole_or_unsent(received: Any, lost: Any, unsent: Any, next_n: int) -> None:
    gone, waits = owed(received, lost, unsent, next_n)
    missing = set(range(1, next_n)) - _set(received) - _set(lost)
    assert (_set(gone), _set(waits)) == (missing - _set(unsent), missing & _set(unsent))
