"""What people decide of records that are alike, and that all of it can be taken back."""

from __future__ import annotations

import datetime as dt
import random
import uuid
from pathlib import Path
from typing import Any

import orjson
import pytest
from sqlalchemy.orm import Session

from sync import export, group_review, groups
from sync.columns import Wanted
from sync.evidence import verify
from sync.models import SignedIn, begin_read
from sync.patrol_log import Selection
from sync.problems import DecidedMeanwhile, DecisionInvalid, EnvelopeInvalid, NotFound
from sync.wire import GroupingShape, read_decision
from tests.builders import YINONG, make_lists, make_signed_in
from tests.sync.alike import ids, listed, proposed, said, seen
from tests.sync.days import amend, batch, patrol, push, void, warning
from tests.sync.test_resemblances import told_by_two

IN_YINONG = {"lon": 120.56, "lat": 30.18, "accuracy_m": 12, "crs": "wgs84", "source": "gps"}
People = dict[str, SignedIn]


@pytest.fixture
def people(session: Session) -> People:
    make_lists(session)
    roles = {"officer": "officer", "partner": "officer", "supervisor": "supervisor", "reviewer": "reviewer"}
    found = {name: make_signed_in(session, username=name, role=role) for name, role in roles.items()}
    found["elsewhere"] = make_signed_in(session, username="elsewhere", role="supervisor", townships=[YINONG])
    session.commit()
    return found


@pytest.fixture
def five(session: Session, people: People, now: dt.datetime) -> list[str]:
    """Five incidents that resemble nothing, hours and kilometres apart, in the order of their arrival."""
    out = patrol()
    push(session, people["officer"], batch(people["officer"], out), now)
    records = []
    for number in range(5):
        what = seen(out, minutes=60 * number, metres=600 * number, vendor=None)
        push(session, people["officer"], batch(people["officer"], what), now + dt.timedelta(minutes=number))
        records.append(what["record"])
    return records


def groups_now(session: Session, records: list[str]) -> set[frozenset[str]]:
    session.rollback()
    found = groups.groups_of(session, [uuid.UUID(record) for record in records])
    session.rollback()
    return {frozenset(map(str, group)) for group in found.values()}


# ---------------------------------------------------------------- what may be said


def test_a_group_counts_once_in_lists_counts_and_exports_and_the_first_to_arrive_stands_for_it(
    session: Session, people: People, five: list[str], now: dt.datetime, tmp_path: Path
) -> None:
    first, second, *others = five
    answer = said(session, people["supervisor"], "group", [second, first], now)
    assert answer["groups"] == [{"id": min(first, second), "records": sorted([first, second])}]
    shown = listed(session, people["supervisor"])
    assert set(ids(shown)) == {first, *others}
    (group,) = [each["group"] for each in shown if each["id"] == first]
    assert group["records"] == [first, second]
    assert set(ids(listed(session, people["supervisor"], grouped="expand"))) == set(five)
    assert exported(session, people["supervisor"], tmp_path) == {first, *others}
    assert exported(session, people["supervisor"], tmp_path, grouped="expand") == set(five)


def exported(session: Session, who: SignedIn, folder: Path, **selection: Any) -> set[str]:
    session.rollback()
    begin_read(session)
    export.write(session, who, Wanted("incident", Selection(**selection)), "geojson", folder / "file.geojson")
    session.rollback()
    return {feature["id"] for feature in orjson.loads((folder / "file.geojson").read_bytes())["features"]}


def test_a_group_is_found_by_whichever_of_its_records_is_asked_for(
    session: Session, people: People, five: list[str], now: dt.datetime
) -> None:
    """Hiding a record behind one that the filter leaves out would lose it without a trace."""
    said(session, people["supervisor"], "group", five[:2], now)
    late = dt.datetime(2026, 11, 23, 0, 30, tzinfo=dt.UTC)  # half past eight in Xiaoshan: the first was at eight
    assert five[1] in ids(listed(session, people["supervisor"], from_at=late))
    push(
        session, people["officer"], batch(people["officer"], void({"kind": "incident.create", "record": five[0]})), now
    )
    assert five[1] in ids(listed(session, people["supervisor"]))


def test_a_group_is_seen_by_whoever_sees_one_of_its_records(session: Session, people: People, now: dt.datetime) -> None:
    one, other, _ = told_by_two(session, people["officer"], people["partner"], now)
    said(session, people["supervisor"], "group", [one["record"], other["record"]], now)
    for who, own in ((people["officer"], one), (people["partner"], other)):
        (shown,) = listed(session, who)
        assert shown["id"] == own["record"]
        assert shown["group"]["records"] == [own["record"]]


def test_what_is_one_thing_with_the_same_is_one_thing_and_may_be_split_again(
    session: Session, people: People, five: list[str], now: dt.datetime
) -> None:
    supervisor = people["supervisor"]
    said(session, supervisor, "group", five[:2], now)
    said(session, supervisor, "group", five[:3], now)
    assert groups_now(session, five) == {frozenset(five[:3])}
    said(session, supervisor, "split", five[:3], now, off=[five[2]])
    assert groups_now(session, five) == {frozenset(five[:2])}
    said(session, supervisor, "split", five[:2], now, off=[five[0]])
    assert groups_now(session, five) == set()


def test_a_pair_that_was_told_apart_is_not_shown_until_more_speaks_for_it(
    session: Session, people: People, now: dt.datetime
) -> None:
    one, other, _ = told_by_two(session, people["officer"], people["partner"], now)
    both = [one["record"], other["record"]]
    assert len(proposed(session, people["supervisor"], now)) == 1
    said(session, people["supervisor"], "apart", both, now)
    assert proposed(session, people["supervisor"], now) == []
    name = amend(other, 1, description=one["body"]["description"], items=["DEMO-SR-001"])
    push(session, people["partner"], batch(people["partner"], name), now)
    photo = {"sha256": "ab" * 32, "bytes": 3, "type": "image/jpeg"}
    for who, what, version in ((people["officer"], one, 1), (people["partner"], other, 2)):
        push(session, who, batch(who, amend(what, version) | {"photos": [photo]}), now)
    assert len(proposed(session, people["supervisor"], now)) == 1


# ---------------------------------------------------------------- what is refused, and why


def test_every_record_has_to_be_named_as_it_is_with_all_it_is_one_thing_with(
    session: Session, people: People, five: list[str], now: dt.datetime
) -> None:
    said(session, people["supervisor"], "group", five[:2], now)
    with pytest.raises(DecidedMeanwhile) as refused:
        said(session, people["supervisor"], "group", five[1:3], now)
    assert refused.value.details["groups"] == [{"id": min(five[:2]), "records": sorted(five[:2])}]
    with pytest.raises(DecidedMeanwhile) as refused:
        said(session, people["supervisor"], "group", five[3:], now, version=2)
    assert {each["version"] for each in refused.value.details["records"]} == {1}


def test_who_is_not_in_charge_of_every_record_decides_nothing(
    session: Session, people: People, five: list[str], now: dt.datetime
) -> None:
    out = patrol(township=YINONG)
    there = seen(out, township=YINONG) | {"fix": IN_YINONG}
    push(session, people["officer"], batch(people["officer"], out, there), now)
    for who in (people["supervisor"], people["elsewhere"]):
        with pytest.raises(NotFound):
            said(session, who, "group", [five[0], there["record"]], now)
    said(session, people["reviewer"], "group", [five[0], there["record"]], now)
    with pytest.raises(DecisionInvalid) as refused:
        said(session, people["supervisor"], "group", five[:2], now)
    assert refused.value.details == {"why": "elsewhere"}


@pytest.mark.parametrize(
    ("action", "count", "more", "why"),
    [
        ("group", 1, {}, "one-already"),
        ("apart", 1, {}, "one-already"),
        ("split", 2, {}, "no-part-of-one-group"),
        ("undo", 2, {}, "nothing-said"),
        ("undo", 2, {"grouping": str(uuid.uuid4())}, "nothing-said"),
    ],
)
def test_what_makes_no_sense_is_refused(
    session: Session, people: People, five: list[str], now: dt.datetime, action: str, count: int, more: Any, why: str
) -> None:
    with pytest.raises(DecisionInvalid) as refused:
        said(session, people["supervisor"], action, five[:count], now, **more)
    assert refused.value.details == {"why": why}


def test_records_of_two_kinds_are_never_one_thing(
    session: Session, people: People, five: list[str], now: dt.datetime
) -> None:
    told = warning({"record": five[0]})
    push(session, people["officer"], batch(people["officer"], told), now)
    with pytest.raises(DecisionInvalid) as refused:
        said(session, people["supervisor"], "group", [five[0], told["record"]], now)
    assert refused.value.details == {"why": "kinds"}


@pytest.mark.parametrize(
    "body",
    [
        {"action": "merge"},
        {"records": []},
        {"records": [{"id": "x", "version": 1}]},
        {"reason": " "},
        {"reason": None},
        {"off": "all"},
        {"grouping": 7},
        {"more": 1},
    ],
)
def test_a_body_that_says_nothing_sensible_is_refused(body: dict[str, Any]) -> None:
    whole = {"action": "group", "records": [{"id": str(uuid.uuid4()), "version": 1}], "reason": "同一事件"}
    with pytest.raises(EnvelopeInvalid):
        read_decision(orjson.dumps(whole | body), GroupingShape())


# ---------------------------------------------------------------- that all of it can be taken back


def test_a_history_tells_who_said_what_and_why_and_what_was_taken_back(
    session: Session, people: People, five: list[str], now: dt.datetime
) -> None:
    answer = said(session, people["supervisor"], "group", five[:2], now)
    said(session, people["reviewer"], "undo", five[:2], now, grouping=answer["grouping"])
    session.rollback()
    told = orjson.loads(orjson.dumps(group_review.history(session, people["supervisor"], uuid.UUID(five[0]))))
    assert told["group"] is None
    words = [(word["action"], word["by"]["username"], word["undone"], word["reason"]) for word in told["said"]]
    assert words == [("group", "supervisor", True, "核对照片后认定"), ("undo", "reviewer", False, "核对照片后认定")]
    with pytest.raises(NotFound):
        group_review.history(session, people["elsewhere"], uuid.UUID(five[0]))


@pytest.mark.parametrize("seed", range(3))
def test_whatever_was_said_in_whatever_order_taking_it_back_restores_every_byte(
    session: Session, people: People, five: list[str], tmp_path: Path, now: dt.datetime, seed: int
) -> None:
    """Lists, counts, exports and what waits are, byte for byte, what they were before anything was said."""
    chance, supervisor = random.Random(seed), people["supervisor"]
    before, made = everything(session, people, tmp_path, now), []
    for _ in range(8):
        action, records, more = _something(chance, groups_now(session, five), five)
        made.append(said(session, supervisor, action, records, now, **more)["grouping"])
    assert list(verify(session))
    chance.shuffle(made)
    for grouping in made:
        about = _with_their_groups(groups_now(session, five), set(five))
        said(session, supervisor, "undo", about, now, grouping=grouping)
    assert everything(session, people, tmp_path, now) == before
    assert list(verify(session))


def _something(
    chance: random.Random, laid: set[frozenset[str]], records: list[str]
) -> tuple[str, list[str], dict[str, Any]]:
    """Something that may be said of these records as they are grouped now."""
    if laid and chance.random() < 0.4:
        group = chance.choice(sorted(laid, key=sorted))
        return "split", sorted(group), {"off": chance.sample(sorted(group), chance.randint(1, len(group) - 1))}
    while True:
        about = _with_their_groups(laid, set(chance.sample(records, 2)))
        if frozenset(about) not in laid:
            return chance.choice(["group", "apart"]), about, {}


def _with_their_groups(laid: set[frozenset[str]], records: set[str]) -> list[str]:
    return sorted(records.union(*(group for group in laid if group & records)))


def everything(session: Session, people: People, folder: Path, now: dt.datetime) -> bytes:
    """What people are shown of all of it, as the bytes they are sent."""
    shown: list[Any] = []
    for who in people.values():
        shown += [listed(session, who, grouped=how) for how in ("once", "expand")]
        shown.append(sorted(exported(session, who, folder)))
    shown.append(proposed(session, people["reviewer"], now))
    return orjson.dumps(shown)


def test_vendors_are_grouped_and_taken_apart_like_records(session: Session, people: People, now: dt.datetime) -> None:
    one, other, _ = told_by_two(session, people["officer"], people["partner"], now)
    vendors = [what["body"]["vendor"]["id"] for what in (one, other)]
    said(session, people["supervisor"], "group", vendors, now)
    assert groups_now(session, vendors) == {frozenset(vendors)}
    said(session, people["supervisor"], "undo", vendors, now)
    assert groups_now(session, vendors) == set()
    assert list(verify(session))
