"""What a phone is told and what not, that what is none of its business any more leaves it, what a cursor is worth."""

from __future__ import annotations

import base64
import datetime as dt
import hashlib
import shutil
import struct
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import Engine, make_url, select
from sqlalchemy.orm import Session

from sync import carried, journal, photos, reference
from sync.changes import MOST_LINKS, USUALLY_WALKED, changes
from sync.evidence import verify
from sync.journal import Change
from sync.models import (
    Account,
    Delegation,
    Head,
    Link,
    Operation,
    SignedIn,
    Township,
    begin_read,
    begin_write,
    insert_rows,
)
from sync.problems import CursorExpired, QueryInvalid
from tests.builders import GUALI, YINONG, make_installation, make_lists, make_signed_in
from tests.conftest import opened
from tests.counting import count_statements
from tests.demo import demo_list
from tests.sync.days import amend, batch, incident, operation, outcomes, patrol, push, void, warning
from tests.sync.pulling import Puller, asked

PHOTO: dict[str, Any] = {"sha256": "ab" * 32, "bytes": 3, "type": "image/jpeg", "role": "before"}
VENDOR = {"name": "测试摊主", "phone": "13800001234", "stall": "早点", "plate": "浙A00005"}


@pytest.fixture
def officer(session: Session) -> SignedIn:
    make_lists(session)
    make_signed_in(session, username="partner")
    who = make_signed_in(session)
    session.commit()
    return who


def someone(session: Session, username: str, *, role: str = "officer", townships: tuple[str, ...] = (GUALI,)) -> Puller:
    who = make_signed_in(session, username=username, role=role, townships=townships)
    session.commit()
    return Puller(who)


def met(of: dict[str, Any], **body: Any) -> dict[str, Any]:
    """An incident with a vendor who has a telephone and a van."""
    return incident(of, vendor=VENDOR | {"id": str(uuid.uuid4())}, **body)


def told_to(of: dict[str, Any], **body: Any) -> dict[str, Any]:
    """The warning given to the vendor of an incident."""
    return warning(of, vendor=of["body"]["vendor"]["id"], township=GUALI, **body)


def move(session: Session, now: dt.datetime, *moved: Change) -> None:
    session.rollback()
    begin_write(session)
    journal.record(session, moved, now=now)
    session.commit()


def entity(kind: str, name: str, *, gone: bool = False) -> Change:
    return Change(kind, name, [kind, name, "…"], new=False, gone=gone)


# ---------------------------------------------------------------- reference data


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("lists")
    demo_list.write(made)
    return made


def test_all_lists_come_along_and_of_delegations_those_of_the_own_townships(
    session: Session, now: dt.datetime, folder: Path
) -> None:
    begin_write(session)
    reference.load(session, reference.read(folder), now=now)
    session.commit()
    phone = someone(session, "guali")
    phone.pull(session, limit=300)
    counted = {kind: len(phone.ids(kind)) for kind, _ in phone.holds}
    assert counted == {
        "township": 27,
        "department": 9,
        "event_class": 111,
        "item": demo_list.DEFAULT_SIZE,
        "place": 23,
        "delegation": demo_list.GUALI_ITEMS,
    }
    assert {data["township_code"] for (kind, _), data in phone.holds.items() if kind == "delegation"} == {GUALI}
    for (kind, name), data in phone.holds.items():
        assert carried.DOCUMENTS[kind]().validate(data) == {}, name
    assert phone.holds["township", GUALI]["areas"][0]["geometry"]["type"] == "Polygon"
    item = phone.holds["item", "DEMO-SR-001@2022-01-01"]
    assert [provision["ordinal"] for provision in item["provisions"]] == [1]
    assert phone.pull(session) == []


def test_a_list_that_changes_comes_again_and_an_end_is_no_deletion(
    session: Session, now: dt.datetime, folder: Path, tmp_path: Path
) -> None:
    phone = someone(session_with(session, now, folder), "guali")
    phone.pull(session)
    changed = Path(shutil.copytree(folder, tmp_path / "changed"))
    places = changed / "designated_places.geojson"
    text = places.read_text(encoding="utf-8")
    assert text.count('"until_on": null') > 1
    places.write_text(text.replace('"until_on": null', '"until_on": "2026-12-31"', 1), encoding="utf-8")
    session_with(session, now, changed)
    (change,) = phone.pull(session)
    assert (change["type"], change["op"], change["data"]["until_on"]) == ("place", "put", "2026-12-31")


def session_with(session: Session, now: dt.datetime, folder: Path) -> Session:
    """The session, once the folder is loaded."""
    session.rollback()
    begin_write(session)
    reference.load(session, reference.read(folder), now=now)
    session.commit()
    return session


def test_codes_may_hold_the_sign_that_parts_them(session: Session, officer: SignedIn, now: dt.datetime) -> None:
    begin_write(session)
    session.add(Delegation(township_code=GUALI, item_code="A@B@C", from_on=dt.date(2025, 1, 1)))
    session.commit()
    move(session, now, entity("delegation", f"{GUALI}@A@B@C@2025-01-01"))
    phone = Puller(officer)
    phone.pull(session)
    assert phone.holds["delegation", f"{GUALI}@A@B@C@2025-01-01"]["item_code"] == "A@B@C"


def test_what_is_gone_leaves_the_phone_and_is_not_mentioned_to_one_that_begins(
    session: Session, officer: SignedIn, now: dt.datetime
) -> None:
    move(session, now, entity("township", GUALI), entity("township", YINONG))
    phone = Puller(officer)
    phone.pull(session)
    session.delete(session.get_one(Township, "330109007"))
    session.commit()
    move(session, now, entity("township", "330109007", gone=True), entity("department", "none", gone=True))
    deletes = [{"type": "department", "id": "none"}, {"type": "township", "id": "330109007"}]
    assert phone.pull(session) == [change | {"op": "delete"} for change in deletes]
    assert Puller(officer).pull(session, limit=1) == [
        {"type": "township", "id": code, "op": "put", "data": phone.holds["township", code]} for code in (GUALI, YINONG)
    ]


# ---------------------------------------------------------------- vendors and warnings


def test_warnings_of_the_townships_come_along_with_the_vendor_and_no_telephone(
    session: Session, officer: SignedIn, now: dt.datetime
) -> None:
    out = patrol()
    here, elsewhere = met(out), met(out, township=YINONG)
    warned, away = told_to(here), told_to(elsewhere) | {"fix": None}
    away["body"]["township"] = YINONG
    push(session, officer, batch(officer, out, here, elsewhere, warned, away), now)
    colleague, chief = someone(session, "colleague"), someone(session, "chief", role="supervisor")
    helper, stranger = someone(session, "helper", role="auxiliary"), someone(session, "s", townships=(YINONG,))
    for phone in (colleague, chief, helper, stranger):
        phone.pull(session)
        assert {kind for kind, _ in phone.holds} == {"vendor", "warning"}
    assert stranger.ids("warning") == {away["record"]}
    assert colleague.ids("warning") == helper.ids("warning") == chief.ids("warning") == {warned["record"]}
    assert colleague.ids("vendor") == {here["body"]["vendor"]["id"]}

    known, alone = {"phone": "138****1234", "plate": "浙A****5"}, {"township_code": GUALI, "grouped_with": []}
    for phone in (colleague, helper):
        told = phone.holds["warning", warned["record"]]
        assert told["vendor"] == VENDOR | known | {"id": here["body"]["vendor"]["id"]}
        assert phone.holds["vendor", told["vendor"]["id"]] == VENDOR | known | {
            "township_code": GUALI,
            "grouped_with": [],
        }
        assert told["own"] is False
        assert told.keys() & {"notes", "photos"} == set()
    assert chief.holds["vendor", told["vendor"]["id"]] == VENDOR | alone
    assert chief.holds["warning", warned["record"]]["vendor"]["phone"] == "13800001234"


def test_a_warning_tells_of_a_vendor_of_another_township(session: Session, officer: SignedIn, now: dt.datetime) -> None:
    out = patrol()
    elsewhere = met(out, township=YINONG)
    warned = told_to(elsewhere)
    push(session, officer, batch(officer, out, elsewhere, warned), now)
    colleague = someone(session, "colleague")
    colleague.pull(session)
    assert colleague.ids("vendor") == set()
    assert colleague.holds["warning", warned["record"]]["vendor"]["name"] == VENDOR["name"]


@pytest.mark.parametrize("leaving", ["filed elsewhere", "voided"])
def test_a_warning_that_is_filed_elsewhere_or_voided_leaves_the_phones_of_others(
    session: Session, officer: SignedIn, now: dt.datetime, leaving: str
) -> None:
    out = patrol()
    seen = met(out)
    warned = told_to(seen)
    push(session, officer, batch(officer, out, seen, warned), now)
    own, colleague, there = Puller(officer), someone(session, "colleague"), someone(session, "s", townships=(YINONG,))
    for phone in (own, colleague, there):
        phone.pull(session)
    changed = void(warned) if leaving == "voided" else amend(warned, 1, township=YINONG)
    assert outcomes(push(session, officer, batch(officer, changed), now)) == ["applied"]

    gone = {"type": "warning", "id": warned["record"], "op": "delete"}
    assert colleague.pull(session) == [gone]
    assert [change["op"] for change in own.pull(session)] == ["put"]
    assert own.holds["warning", warned["record"]]["version"] == 2
    if leaving == "voided":
        assert there.pull(session) == [gone]
        assert own.holds["warning", warned["record"]]["voided"]["reason"] == "重复录入"
    else:
        assert [change["op"] for change in there.pull(session)] == ["put"]
    newcomer = someone(session, "newcomer")
    assert "delete" not in {change["op"] for change in newcomer.pull(session)}
    assert newcomer.ids("warning") == set()


# ---------------------------------------------------------------- own records


def test_own_records_come_back_with_what_became_of_them_and_nobody_elses(
    session: Session, officer: SignedIn, now: dt.datetime
) -> None:
    out = patrol(officers=["officer"])
    seen = met(out, parties=[{"name": "甲", "id_number": "330109199001011234"}]) | {"photos": [PHOTO], "fix": None}
    warned = told_to(seen)
    push(session, officer, batch(officer, out, seen, warned), now)
    phone, colleague = Puller(officer), someone(session, "colleague")
    phone.pull(session)
    colleague.pull(session)
    for (kind, name), data in phone.holds.items():
        assert carried.DOCUMENTS[kind]().validate(data) == {}, name
    assert colleague.ids("patrol") | colleague.ids("incident") == set()

    assert phone.holds["patrol", out["record"]]["officers"] == ["officer"]
    told = phone.holds["incident", seen["record"]]
    assert (told["version"], told["own"], told["township_code"], told["voided"]) == (1, True, GUALI, None)
    assert told["photos"] == [PHOTO]
    assert [note["code"] for note in told["notes"]] == ["no-fix"]
    assert told["occurred"].keys() == {"at", "error_ms", "method"}
    assert (told["patrol"], told["vendor"]) == (out["record"], seen["body"]["vendor"]["id"])
    assert "330109199001011234" not in str(phone.holds)
    assert "13800001234" not in str(phone.holds)


def test_a_patrol_is_carried_by_all_who_are_out_and_leaves_who_is_taken_off_it(
    session: Session, officer: SignedIn, now: dt.datetime
) -> None:
    colleague = someone(session, "colleague")
    out = patrol(officers=["officer", "Colleague"])
    push(session, officer, batch(officer, out), now)
    colleague.pull(session)
    assert colleague.holds["patrol", out["record"]]["own"] is False
    push(session, officer, batch(officer, amend(out, 1, officers=["officer", "partner"])), now)
    assert colleague.pull(session) == [{"type": "patrol", "id": out["record"], "op": "delete"}]
    push(session, officer, batch(officer, amend(out, 2, officers=["officer", "colleague"])), now)
    assert [change["op"] for change in colleague.pull(session)] == ["put"]


def test_one_who_begins_is_not_told_of_what_was_amended_before(
    session: Session, officer: SignedIn, now: dt.datetime
) -> None:
    out = patrol()
    seen = met(out)
    warned = told_to(seen)
    push(session, officer, batch(officer, out, seen, warned, amend(out, 1, purpose="夜查"), void(warned)), now)
    assert {change["op"] for change in someone(session, "colleague").pull(session, limit=1)} == {"put"}


def test_own_photos_are_told_when_they_arrive(session: Session, officer: SignedIn, now: dt.datetime) -> None:
    out = patrol()
    push(session, officer, batch(officer, out, incident(out, photos=[PHOTO])), now)
    phone, colleague = Puller(officer), someone(session, "colleague")
    phone.pull(session)
    for who in (officer, colleague.who, officer):
        begin_write(session)
        photos.arrive(session, who, PHOTO["sha256"], PHOTO["bytes"], now=now)
        session.commit()
    arrived = {"received_at": "2026-11-23T08:15:00.000Z", "bytes": 3}
    told = {"type": "photo", "id": PHOTO["sha256"], "op": "put", "data": arrived}
    assert phone.pull(session) == [told]
    assert colleague.pull(session) == [told]
    assert someone(session, "third").pull(session) == []
    assert list(verify(session))


@pytest.mark.parametrize("outcome", ["applied", "quarantined"])
def test_what_became_of_an_operation_that_waited_comes_to_whoever_sent_it(
    session: Session, officer: SignedIn, now: dt.datetime, outcome: str
) -> None:
    """The patrol comes from another phone, so that no receipt tells."""
    partner = someone(session, "colleague")
    out = patrol(officers=["officer", "colleague"])
    seen = incident(out)
    assert outcomes(push(session, officer, batch(officer, seen), now)) == ["held"]
    phone = Puller(officer)
    assert phone.pull(session) == []
    if outcome == "quarantined":
        out = operation("incident.create", uuid.UUID(out["record"]), body={"patrol": str(uuid.uuid4()), "items": []})
        parent = patrol(record=uuid.UUID(out["body"]["patrol"]))
        push(session, partner.who, batch(partner.who, parent, out), now)
    else:
        push(session, partner.who, batch(partner.who, out), now)
    phone.pull(session)
    told = phone.holds["operation", seen["op"]]
    assert (told["op"], told["n"], told["record"], told["outcome"]) == (seen["op"], seen["n"], seen["record"], outcome)
    assert told["install"] == str(officer.install_id)
    assert (told["problem"] or {}).get("code") == (None if outcome == "applied" else "wrong-record-kind")
    assert carried.DOCUMENTS["operation"]().validate(told) == {}
    partner.pull(session)
    assert partner.ids("operation") == set()
    assert list(verify(session))


def test_whom_a_conflict_concerns_is_masked(session: Session, officer: SignedIn, now: dt.datetime) -> None:
    """An amend that waited for a version conflicts when it is there."""
    out = patrol()
    seen = incident(out)
    tablet = replace(officer, install_id=make_installation(session, session.get_one(Account, officer.account_id)).id)
    session.commit()
    push(session, officer, batch(officer, out, seen), now)
    late = amend(seen, 2, parties=[{"name": "甲", "id_number": "330109199001011234"}]) | {"base": 3}
    assert outcomes(push(session, tablet, batch(tablet, late), now)) == ["held"]
    phone = Puller(officer)
    phone.pull(session)
    begin_write(session)
    row = session.scalars(select(Operation).where(Operation.id == uuid.UUID(late["op"]))).one()
    fields = [{"field": "parties", "base": [], "live": [], "yours": late["set"]["parties"]}]
    row.outcome, row.problem = "conflict", {"code": "conflict", "fields": fields}
    session.commit()
    move(session, now, entity("operation", late["op"]))
    (change,) = phone.pull(session)
    assert change["data"]["problem"]["fields"][0]["yours"] == [{"name": "甲", "id_number": "330***********1234"}]


# ---------------------------------------------------------------- pages


@pytest.mark.parametrize("limit", [1, 2, 3, 7, 1_000])
def test_pages_of_any_size_come_to_the_same(session: Session, officer: SignedIn, now: dt.datetime, limit: int) -> None:
    for _ in range(3):
        out = patrol()
        seen = [met(out) for _ in range(3)]
        push(session, officer, batch(officer, out, *seen, *map(told_to, seen)), now)
    whole = Puller(officer).pull(session)
    assert len(whole) == 3 * (1 + 3 * 3)
    assert Puller(officer).pull(session, limit=limit) == whole


def test_a_page_that_ends_with_the_feed_says_so(session: Session, officer: SignedIn, now: dt.datetime) -> None:
    push(session, officer, batch(officer, patrol(), patrol()), now)
    assert asked(session, officer, None, limit=1).more
    page = asked(session, officer, None, limit=2)
    assert (len(page.changes), page.more) == (2, False)
    assert asked(session, officer, page.cursor, limit=2) == replace(page, changes=[])


def test_what_changes_while_a_phone_reads_comes_once_more_and_nothing_is_left_out(
    session: Session, officer: SignedIn, now: dt.datetime
) -> None:
    outings = [patrol() for _ in range(4)]
    push(session, officer, batch(officer, *outings), now)
    phone = Puller(officer)
    phone.turn(session, limit=2)
    push(session, officer, batch(officer, *(amend(out, 1, purpose="夜查") for out in outings)), now)
    phone.pull(session, limit=2)
    assert [data["version"] for data in phone.holds.values()] == [2] * 4


def test_a_page_walks_so_many_rows_and_links_and_no_more(session: Session, officer: SignedIn, now: dt.datetime) -> None:
    elsewhere = [f"{YINONG}@X{n}@2022-01-01" for n in range(USUALLY_WALKED + 1)]
    move(session, now, *(Change("delegation", name, ["…"], new=True) for name in elsewhere))
    page = asked(session, officer, None, limit=10)
    assert (page.changes, page.more) == ([], True)
    page = asked(session, officer, page.cursor, limit=10)
    assert (page.changes, page.more) == ([], False)

    begin_write(session)
    head = session.scalars(select(Head)).one()
    empty = {"at": now, "hash": bytes(32), "entries": b""}
    numbers = range(head.number + 1, head.number + MOST_LINKS + 1)
    insert_rows(session, Link, [{"number": number, "key": uuid.uuid4()} | empty for number in numbers])
    head.number += MOST_LINKS
    session.commit()
    move(session, now, entity("township", GUALI))
    page = asked(session, officer, page.cursor, limit=10)
    assert (page.changes, page.more) == ([], True)
    assert [change["id"] for change in asked(session, officer, page.cursor, limit=10).changes] == [GUALI]


def test_the_number_of_queries_does_not_grow_with_the_page(
    engine: Engine, session: Session, officer: SignedIn, now: dt.datetime
) -> None:
    def statements(limit: int) -> int:
        with count_statements(engine) as counted, Session(engine) as other:
            begin_read(other)
            assert changes(other, officer, None, limit=limit).changes
        return counted.statements

    def day() -> None:
        out = patrol()
        seen = met(out)
        push(session, officer, batch(officer, out, seen, told_to(seen)), now)

    day()
    few = statements(1_000)
    for _ in range(5):
        day()
    assert statements(1_000) == statements(1) == few


# ---------------------------------------------------------------- cursors


@pytest.fixture
def cursor(session: Session, officer: SignedIn, now: dt.datetime) -> str:
    """One that stands inside a link: the longest there are."""
    push(session, officer, batch(officer, patrol(), patrol()), now)
    return asked(session, officer, None, limit=1).cursor


def refused(session: Session, who: SignedIn, cursor: str) -> bool:
    """Whether it is called none of ours."""
    try:
        asked(session, who, cursor, limit=1)
    except QueryInvalid as invalid:
        return bool(invalid.details["errors"][0]["pointer"] == "/cursor")
    return False


def test_a_cursor_that_was_cut_or_garbled_anywhere_is_none_of_ours(
    session: Session, officer: SignedIn, cursor: str
) -> None:
    assert not refused(session, officer, cursor)
    for index in range(len(cursor)):
        assert refused(session, officer, cursor[:index]), index
        assert refused(session, officer, cursor[index + 1 :]), index
        assert refused(session, officer, cursor[:index] + cursor[index + 1 :]), index
        other = "A" if cursor[index] != "A" else "B"
        assert refused(session, officer, cursor[:index] + other + cursor[index + 1 :]), index
    for longer in (cursor + "A", cursor + "=", cursor + cursor, " " + cursor, cursor + "瓜"):
        assert refused(session, officer, longer)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.one_of(st.text(max_size=100), st.binary(max_size=200).map(lambda raw: base64.urlsafe_b64encode(raw).decode()))
)
def test_what_anybody_makes_up_is_none_of_ours(session: Session, officer: SignedIn, made_up: str) -> None:
    assert refused(session, officer, made_up)


def forged(content: bytes) -> str:
    """A cursor with its check made right."""
    return base64.urlsafe_b64encode(hashlib.sha256(content).digest()[:6] + content).rstrip(b"=").decode()


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.binary(min_size=32, max_size=32), st.text(max_size=110))
def test_whoever_forges_the_check_too_is_sent_back_to_the_beginning(
    session: Session, officer: SignedIn, fixed: bytes, tail: str
) -> None:
    with pytest.raises((CursorExpired, QueryInvalid)):
        asked(session, officer, forged(fixed + tail.encode(errors="replace")), limit=1)


@pytest.mark.parametrize("tail", [b" ", b"patrol", b"zzz zzz", b"patrol " + b"x" * 300, b"a\0 b", b"\xff", b"  "])
def test_a_forged_place_moves_the_forger_and_breaks_nothing(
    session: Session, officer: SignedIn, cursor: str, tail: bytes
) -> None:
    content = base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4))[6:]
    changed = forged(content[:32] + tail)
    if not refused(session, officer, changed):
        asked(session, officer, changed, limit=1_000)


def test_a_number_beyond_everything_has_expired(session: Session, officer: SignedIn, cursor: str) -> None:
    content = base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4))[6:]
    for number in (2, 2**31, 2**63, 2**64 - 1):
        with pytest.raises(CursorExpired):
            asked(session, officer, forged(content[:24] + struct.pack(">Q", number) + b" "), limit=1)


@pytest.mark.parametrize(
    "changed",
    [
        lambda who: replace(who, account_id=who.account_id + 1),
        lambda who: replace(who, role="supervisor"),
        lambda who: replace(who, townships=frozenset({GUALI, YINONG})),
        lambda who: replace(who, townships=frozenset()),
    ],
)
def test_a_cursor_is_good_for_one_account_and_its_townships_of_today(
    session: Session, officer: SignedIn, cursor: str, changed: Callable[[SignedIn], SignedIn]
) -> None:
    with pytest.raises(CursorExpired):
        asked(session, changed(officer), cursor, limit=1)
    other_phone = replace(officer, install_id=uuid.uuid4())
    assert asked(session, other_phone, cursor, limit=1).changes


def test_a_cursor_of_another_database_has_expired(session: Session, officer: SignedIn, cursor: str) -> None:
    session.rollback()
    begin_write(session)
    session.scalars(select(Head)).one().epoch = uuid.uuid4()
    session.commit()
    with pytest.raises(CursorExpired):
        asked(session, officer, cursor, limit=1)


# ---------------------------------------------------------------- a restore


@pytest.fixture
def backup(request: pytest.FixtureRequest, database_url: str, tmp_path: Path) -> Callable[[], Callable[[], str]]:
    """Takes a backup of the database as it is; what it gives restores that into a new one, again and again."""

    def take() -> Callable[[], str]:
        if database_url.startswith("sqlite"):
            kept, restored = tmp_path / "backup.sqlite", iter(range(9))
            shutil.copyfile(tmp_path / "field.sqlite", kept)  # nobody is connected: the log is folded in

            def restore() -> str:
                return f"sqlite:///{shutil.copyfile(kept, tmp_path / f'restored-{next(restored)}.sqlite')}"

            return restore
        server = request.getfixturevalue("postgresql")
        kept_url = server.create_database(make_url(database_url).database)
        return lambda: str(server.create_database(make_url(kept_url).database))

    return take


@contextmanager
def at(url: str) -> Iterator[Session]:
    with opened(url) as engine, Session(engine) as session:
        yield session


@pytest.mark.parametrize("limit", [1, 2, 1_000])
def test_after_a_restore_no_phone_goes_on_as_if_nothing_had_happened(
    database_url: str, backup: Callable[[], Callable[[], str]], now: dt.datetime, limit: int
) -> None:
    with at(database_url) as session:
        make_lists(session)
        make_signed_in(session, username="partner")
        officer = make_signed_in(session)
        session.commit()
        push(session, officer, batch(officer, patrol(), patrol(), patrol()), now)
        early = asked(session, officer, None, limit=1).cursor
        level = Puller(officer)
        level.pull(session, limit=limit)
    restore = backup()
    with at(database_url) as session:
        push(session, officer, batch(officer, patrol()), now)
        half = Puller(officer, level.cursor, dict(level.holds))
        half.turn(session, limit=1)
        late = asked(session, officer, None, limit=2).cursor  # began after the backup, has read what is in it
    lost = half.ids("patrol") - level.ids("patrol")
    assert len(lost) == 1

    with at(restore()) as session:
        with pytest.raises(CursorExpired):
            half.pull(session)  # before anything new: the number is beyond the head
        assert level.pull(session) == []
    with at(restore()) as session:
        for _ in range(3):
            push(session, officer, batch(officer, patrol(), patrol()), now)
        for stale in (half.cursor, late):
            with pytest.raises(CursorExpired):
                asked(session, officer, stale, limit=limit)
        again, from_early = Puller(officer), Puller(officer, early)
        again.pull(session, limit=limit)
        level.pull(session, limit=limit)
        from_early.pull(session, limit=limit)
        assert level.holds == again.holds
        assert len(from_early.holds) == len(again.holds) - 1
        assert not lost & again.ids("patrol")
