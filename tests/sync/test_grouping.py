"""What is one thing with what, after everything that was said of it."""

from __future__ import annotations

import uuid
from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st

from sync.grouping import Said, fold, pair

A, B, C, D, E = (uuid.UUID(int=number) for number in range(1, 6))


def said(
    action: str, *records: uuid.UUID, undoes: Sequence[Said] = (), apart: Sequence[tuple[uuid.UUID, uuid.UUID]] = ()
) -> Said:
    pairs = [(*pair(one, other), 5.0) for one, other in apart]
    return Said(uuid.uuid4(), action, records, pairs, [each.id for each in undoes])


def groups(*words: Said) -> set[frozenset[uuid.UUID]]:
    return set(fold(words).groups.values())


def test_what_is_one_thing_with_the_same_is_one_thing() -> None:
    assert groups(said("group", A, B), said("group", B, C)) == {frozenset({A, B, C})}
    assert groups(said("group", A, B), said("group", C, D)) == {frozenset({A, B}), frozenset({C, D})}


def test_what_is_split_off_stays_together_and_so_does_the_rest() -> None:
    all_five = said("group", A, B, C, D, E)
    assert groups(all_five, said("split", D, E)) == {frozenset({A, B, C}), frozenset({D, E})}
    assert groups(all_five, said("split", E)) == {frozenset({A, B, C, D})}
    assert groups(said("group", A, B), said("split", B)) == set()


def test_the_last_word_counts() -> None:
    first, split = said("group", A, B), said("split", B, apart=[(A, B)])
    assert groups(first, split, said("group", A, B)) == {frozenset({A, B})}


def test_a_word_taken_back_was_never_said() -> None:
    first, second = said("group", A, B), said("group", B, C)
    assert groups(first, second, said("undo", undoes=[second])) == {frozenset({A, B})}
    assert groups(first, second, said("undo", undoes=[first])) == {frozenset({B, C})}
    split = said("split", B, apart=[(A, B)])
    taken_back = fold([first, split, said("undo", undoes=[split])])
    assert taken_back == fold([first])
    assert taken_back.apart == {}


def test_what_was_told_apart_is_remembered_with_what_spoke_for_it() -> None:
    assert fold([said("apart", A, B, apart=[(B, A)])]).apart == {(A, B): 5.0}


RECORDS = st.lists(st.sampled_from([A, B, C, D, E]), min_size=1, max_size=4, unique=True)
WORDS = st.lists(
    st.builds(lambda action, records: said(action, *records), st.sampled_from(["group", "split"]), RECORDS), max_size=8
)


@given(words=WORDS, data=st.data())
def test_taking_words_back_in_any_order_leads_to_what_was_never_said(words: list[Said], data: st.DataObject) -> None:
    taken_back = data.draw(st.lists(st.sampled_from(words), unique_by=lambda word: word.id)) if words else []
    left = [word for word in words if word not in taken_back]
    assert fold([*words, *(said("undo", undoes=[word]) for word in taken_back)]) == fold(left)


@given(words=WORDS)
def test_every_record_is_in_one_group_at_most_and_groups_have_two_or_more(words: list[Said]) -> None:
    overlay = fold(words)
    for record, group in overlay.groups.items():
        assert record in group
        assert len(group) > 1
        assert all(overlay.groups[other] == group for other in group)
