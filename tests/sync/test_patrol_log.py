"""Who sees what, what the filters mean, and that pages neither lose nor repeat a record."""

from __future__ import annotations

import base64
import dataclasses
import datetime as dt
import uuid
from collections.abc import Callable
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import Engine, update
from sqlalchemy.orm import Session

from sync import shapes
from sync.models import (
    AnnouncedPhoto,
    Photo,
    PhotoFacts,
    SignedIn,
    Vendor,
    begin_read,
    begin_write,
)
from sync.patrol_log import KINDS, Selection, count, one, page
from sync.problems import NotFound, QueryInvalid
from tests.builders import GUALI, YINONG, make_account, make_item, make_lists, make_signed_in
from tests.counting import count_statements
from tests.sync.days import amend, batch, incident, operation, patrol, push, void, warning
from tests.sync.records import NOW, make_incident, make_patrol, make_warning

EVERYTHING = Selection()
DOCUMENTS = {
    "patrol": shapes.OnePatrolDocument,
    "incident": shapes.OneIncidentDocument,
    "warning": shapes.OneWarningDocument,
}


def ids(session: Session, who: SignedIn, kind: str, selection: Selection = EVERYTHING) -> list[str]:
    """What one large page shows."""
    return [record["id"] for record in page(session, who, kind, selection, limit=500).items]


def minutes_ago(minutes: float) -> dt.datetime:
    return NOW - dt.timedelta(minutes=minutes)


@pytest.fixture
def officer(session: Session) -> SignedIn:
    make_lists(session)
    return make_signed_in(session)


@pytest.fixture
def admin(session: Session) -> SignedIn:
    return make_signed_in(session, username="admin", role="admin", townships=())


# ---------------------------------------------------------------- who sees what


@pytest.fixture
def people(session: Session, officer: SignedIn) -> dict[str, SignedIn]:
    """Everybody there is, in 瓜沥镇 except for `elsewhere`."""
    roles = ("auxiliary", "supervisor", "reviewer", "gis", "admin", "auditor")
    others = {role: make_signed_in(session, username=role, role=role) for role in roles}
    elsewhere = make_signed_in(session, username="elsewhere", townships=[YINONG])
    colleague = make_signed_in(session, username="colleague")
    return {"officer": officer, "elsewhere": elsewhere, "colleague": colleague} | others


ALL = {"officer", "auxiliary", "elsewhere", "supervisor-away"}
SEES = {
    "officer": {"officer"},
    "auxiliary": {"auxiliary"},
    "colleague": set(),
    "supervisor": {"officer", "auxiliary", "supervisor-away"},
    "reviewer": ALL,
    "gis": ALL,
    "admin": ALL,
    "auditor": ALL,
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("role", SEES)
def test_lists_counts_and_single_records_show_a_role_the_same_records(
    session: Session, people: dict[str, SignedIn], role: str, kind: str
) -> None:
    made: dict[str, str] = {}
    for name, author, township in (
        ("officer", "officer", GUALI),
        ("auxiliary", "auxiliary", GUALI),
        ("elsewhere", "elsewhere", YINONG),
        ("supervisor-away", "supervisor", YINONG),
    ):
        who, where = people[author], {"township_code": township}
        out = make_patrol(session, who, **where)
        seen = make_incident(session, out, who, **where)
        told = make_warning(session, seen, who, **where)
        made[name] = str({"patrol": out.id, "incident": seen.id, "warning": told.id}[kind])
    who = people[role]
    assert set(ids(session, who, kind)) == {made[name] for name in SEES[role]}
    assert count(session, who, kind, EVERYTHING) == len(SEES[role])
    for name, id in made.items():
        if name in SEES[role]:
            assert one(session, who, kind, uuid.UUID(id))["id"] == id
        else:
            with pytest.raises(NotFound):
                one(session, who, kind, uuid.UUID(id))


def test_a_patrol_is_seen_by_everybody_who_was_out_on_it(session: Session, people: dict[str, SignedIn]) -> None:
    out = make_patrol(session, people["officer"], crew=[people["colleague"]])
    assert ids(session, people["colleague"], "patrol") == [str(out.id)]
    assert count(session, people["colleague"], "patrol", EVERYTHING) == 1
    assert one(session, people["colleague"], "patrol", out.id)["version"] == 1
    assert ids(session, people["auxiliary"], "patrol") == []


def test_a_supervisor_without_a_township_sees_what_is_their_own(session: Session, officer: SignedIn) -> None:
    supervisor = make_signed_in(session, username="supervisor", role="supervisor", townships=())
    make_patrol(session, officer)
    own = make_patrol(session, supervisor)
    assert ids(session, supervisor, "patrol") == [str(own.id)]


def test_a_record_that_is_visible_in_two_ways_is_shown_once(session: Session, people: dict[str, SignedIn]) -> None:
    make_patrol(session, people["supervisor"], crew=[people["officer"]])
    shown = page(session, people["supervisor"], "patrol", EVERYTHING, limit=1)
    assert len(shown.items) == 1
    assert shown.next is None


# ---------------------------------------------------------------- filters


def an_incident_of_a_day(session: Session, officer: SignedIn) -> tuple[str, str]:
    """Two incidents that differ in everything that can be asked for: the one asked for and another."""
    make_item(session, "DEMO-GM-002", delegated_to=[])
    vendor = Vendor(id=VENDOR, created_at=NOW)
    session.add(vendor)
    session.flush()
    colleague = make_signed_in(session, username="colleague")
    out = make_patrol(session, officer)
    asked = make_incident(
        session,
        out,
        officer,
        items=["DEMO-SR-001"],
        photos=[SHA256],
        description="占道经营，已劝导 ABC_50%",
        measures=["educate", "guide"],
        event_class="09001",
        vendor_id=VENDOR,
        note_codes=["single-officer", "no-fix"],
        occurred_at=minutes_ago(10),
    )
    other = make_incident(
        session,
        out,
        colleague,
        description="出店堆物 ABCX50元",
        measures=["order_correction"],
        township_code=YINONG,
        lon=120.6,
        occurred_at=minutes_ago(30),
    )
    return str(asked.id), str(other.id)


VENDOR = uuid.UUID("5b1f7f0a-0000-4000-8000-000000000001")
SHA256 = "ab" * 32


@pytest.mark.parametrize(
    "asked",
    [
        {"from_at": minutes_ago(10)},
        {"from_at": minutes_ago(20), "until_at": minutes_ago(9)},
        {"officer": "officer"},
        {"township": GUALI},
        {"item": "DEMO-SR-001"},
        {"domain": "市容环卫"},
        {"event_class": "09001"},
        {"measure": "guide"},
        {"vendor": VENDOR},
        {"note": "single-officer"},
        {"photos": "missing"},
        {"bbox": (120.4, 30.1, 120.5, 30.2)},
        {"bbox": (120.46, 30.18, 120.46, 30.18)},
        {"q": "劝导"},
        {"q": "abc_"},
        {"q": "50%"},
        {"item": "DEMO-SR-001", "measure": "educate", "township": GUALI, "q": "占道"},
    ],
    ids=str,
)
def test_a_filter_shows_what_it_asks_for_and_nothing_else(
    session: Session, officer: SignedIn, admin: SignedIn, asked: dict[str, Any]
) -> None:
    expected, _ = an_incident_of_a_day(session, officer)
    assert ids(session, admin, "incident", Selection(**asked)) == [expected]
    assert count(session, admin, "incident", Selection(**asked)) == 1


@pytest.mark.parametrize(
    "asked",
    [
        {"until_at": minutes_ago(30)},
        {"officer": "nobody"},
        {"item": "DEMO-GM-002"},
        {"item": "DEMO-SR-001", "township": YINONG},
        {"measure": "guid"},
        {"note": "no"},
        {"q": "劝_"},
        {"q": "c%5"},
        {"q": "\\"},
        {"voided": "only"},
    ],
    ids=str,
)
def test_a_filter_that_nothing_meets_shows_nothing(
    session: Session, officer: SignedIn, admin: SignedIn, asked: dict[str, Any]
) -> None:
    an_incident_of_a_day(session, officer)
    assert ids(session, admin, "incident", Selection(**asked)) == []


def test_a_box_across_the_antimeridian_holds_both_its_sides(
    session: Session, officer: SignedIn, admin: SignedIn
) -> None:
    out = make_patrol(session, officer)
    west = make_incident(session, out, officer, lon=179.5, lat=10.0, occurred_at=minutes_ago(1))
    east = make_incident(session, out, officer, lon=-179.5, lat=10.0, occurred_at=minutes_ago(2))
    make_incident(session, out, officer, lon=0.0, lat=10.0)
    box = Selection(bbox=(179.0, 0.0, -179.0, 20.0))
    assert ids(session, admin, "incident", box) == [str(west.id), str(east.id)]


def test_voided_records_are_shown_only_on_request(session: Session, officer: SignedIn) -> None:
    live = make_patrol(session, officer, occurred_at=minutes_ago(1))
    gone = make_patrol(session, officer, voided_at=NOW, void_reason="误录")
    assert ids(session, officer, "patrol") == [str(live.id)]
    assert ids(session, officer, "patrol", Selection(voided="included")) == [str(gone.id), str(live.id)]
    assert ids(session, officer, "patrol", Selection(voided="only")) == [str(gone.id)]


def test_patrols_are_found_by_anyone_of_the_crew_and_warnings_by_vendor_and_text(
    session: Session, officer: SignedIn, admin: SignedIn
) -> None:
    session.add(Vendor(id=VENDOR, created_at=NOW))
    colleague = make_signed_in(session, username="colleague")
    out = make_patrol(session, officer, crew=[colleague], purpose="早市巡查")
    make_patrol(session, officer)
    seen = make_incident(session, out, officer)
    told = make_warning(session, seen, officer, vendor_id=VENDOR, text="请勿占道")
    make_warning(session, seen, officer)
    assert ids(session, admin, "patrol", Selection(officer="colleague")) == [str(out.id)]
    assert ids(session, admin, "patrol", Selection(q="早市")) == [str(out.id)]
    assert ids(session, admin, "warning", Selection(vendor=VENDOR, q="占道")) == [str(told.id)]


@pytest.mark.parametrize(
    ("kind", "asked"),
    [("patrol", {"item": "DEMO-SR-001"}), ("patrol", {"vendor": VENDOR}), ("warning", {"domain": "市容环卫"})],
)
def test_a_filter_that_makes_no_sense_for_a_kind_is_refused_by_name(
    session: Session, admin: SignedIn, kind: str, asked: dict[str, Any]
) -> None:
    with pytest.raises(QueryInvalid) as refused:
        page(session, admin, kind, Selection(**asked), limit=10)
    (error,) = refused.value.details["errors"]
    assert error["pointer"] == f"/{next(iter(asked))}"


# ---------------------------------------------------------------- photos


def photos_state(session: Session, who: SignedIn, id: uuid.UUID) -> list[bool]:
    return [photo["received"] for photo in one(session, who, "incident", id)["photos"]]


def test_photos_arrive_one_by_one(session: Session, officer: SignedIn) -> None:
    out = make_patrol(session, officer)
    seen = make_incident(session, out, officer, photos=["aa" * 32, "bb" * 32])
    missing, complete = Selection(photos="missing"), Selection(photos="complete")

    def arrive(sha256: str) -> None:
        session.execute(update(AnnouncedPhoto).where(AnnouncedPhoto.sha256 == sha256).values(received_at=NOW))

    assert photos_state(session, officer, seen.id) == [False, False]
    assert ids(session, officer, "incident", missing) == [str(seen.id)]
    arrive("aa" * 32)
    assert photos_state(session, officer, seen.id) == [True, False]
    assert ids(session, officer, "incident", complete) == []
    arrive("bb" * 32)
    assert photos_state(session, officer, seen.id) == [True, True]
    assert ids(session, officer, "incident", missing) == []
    assert ids(session, officer, "incident", complete) == [str(seen.id)]


def test_records_that_wait_for_a_photo_say_since_when(session: Session, officer: SignedIn) -> None:
    out = make_patrol(session, officer)
    seen = make_incident(session, out, officer, photos=["aa" * 32, "bb" * 32])
    long_ago = NOW - dt.timedelta(days=3)
    session.execute(update(AnnouncedPhoto).where(AnnouncedPhoto.sha256 == "aa" * 32).values(announced_at=long_ago))
    assert one(session, officer, "incident", seen.id)["photos_missing_since"] == shapes.instant(long_ago)
    assert one(session, officer, "patrol", out.id)["photos_missing_since"] is None
    day = dt.timedelta(days=1)
    assert ids(session, officer, "incident", Selection(missing_before=NOW - day)) == [str(seen.id)]
    assert ids(session, officer, "incident", Selection(missing_before=long_ago)) == []
    session.execute(update(AnnouncedPhoto).where(AnnouncedPhoto.sha256 == "aa" * 32).values(received_at=NOW))
    assert ids(session, officer, "incident", Selection(missing_before=NOW - day)) == []
    assert one(session, officer, "incident", seen.id)["photos_missing_since"] == shapes.instant(NOW)


def test_a_single_record_tells_what_its_photos_say(session: Session, officer: SignedIn) -> None:
    out = make_patrol(session, officer)
    seen = make_incident(session, out, officer, photos=["aa" * 32, "bb" * 32, "cc" * 32])
    for sha256 in ("aa" * 32, "bb" * 32):
        session.add(Photo(sha256=sha256, size_bytes=3, received_at=NOW, officer_id=officer.account_id))
        session.flush()
        session.add(PhotoFacts(sha256=sha256, flags=["animated"], format="png", looked_at=NOW, lon=120.4, lat=30.2))
    session.execute(update(AnnouncedPhoto).where(AnnouncedPhoto.sha256 == "aa" * 32).values(received_at=NOW))
    session.flush()
    arrived, elsewhere, missing = one(session, officer, "incident", seen.id)["photos"]
    assert (arrived["facts"]["format"], arrived["facts"]["flags"]) == ("png", ["animated"])
    assert arrived["facts"]["position"] == {"lon": 120.4, "lat": 30.2, "error_m": None, "crs": "WGS 84"}
    assert elsewhere["facts"] is missing["facts"] is None


def test_a_record_that_announced_no_photo_lacks_none(session: Session, officer: SignedIn) -> None:
    out = make_patrol(session, officer)
    assert ids(session, officer, "patrol", Selection(photos="complete")) == [str(out.id)]


# ---------------------------------------------------------------- pages


def walk(session: Session, who: SignedIn, limit: int, between: Callable[[], object] = lambda: None) -> list[str]:
    """All patrols, page by page, with something happening between the pages."""
    shown, cursor = [], None
    while True:
        part = page(session, who, "patrol", EVERYTHING, limit=limit, cursor=cursor)
        shown += [record["id"] for record in part.items]
        if part.next is None:
            return shown
        cursor = part.next
        between()


@pytest.mark.parametrize("limit", [1, 2, 3, 7, 8])
def test_pages_hold_every_record_once_newest_first_whatever_their_size(
    session: Session, officer: SignedIn, limit: int
) -> None:
    made = [make_patrol(session, officer, occurred_at=minutes_ago(n // 3)) for n in range(7)]
    expected = sorted(made, key=lambda record: (record.occurred_at, record.id), reverse=True)
    assert walk(session, officer, limit) == [str(record.id) for record in expected]


def test_pages_stay_stable_while_records_arrive(session: Session, officer: SignedIn) -> None:
    made = [str(make_patrol(session, officer, occurred_at=minutes_ago(n)).id) for n in range(6)]
    shown = walk(session, officer, 2, between=lambda: make_patrol(session, officer, occurred_at=NOW))
    assert shown == made


def test_a_cursor_keeps_the_microsecond(session: Session, officer: SignedIn) -> None:
    instants = [NOW + dt.timedelta(microseconds=n) for n in (3, 2, 1)]
    made = [str(make_patrol(session, officer, occurred_at=at).id) for at in instants]
    assert walk(session, officer, 1) == made


def test_a_page_of_a_supervisor_of_two_townships_is_in_one_order(session: Session, officer: SignedIn) -> None:
    supervisor = make_signed_in(session, username="supervisor", role="supervisor", townships=[GUALI, YINONG])
    codes = [GUALI, YINONG, GUALI, YINONG, GUALI]
    made = [
        str(make_patrol(session, officer, township_code=code, occurred_at=minutes_ago(n)).id)
        for n, code in enumerate(codes)
    ]
    assert walk(session, supervisor, 2) == made


def test_a_cursor_serves_only_the_list_it_was_given_for(session: Session, officer: SignedIn) -> None:
    for _ in range(2):
        make_warning(session, make_incident(session, make_patrol(session, officer), officer), officer)
    cursor = page(session, officer, "patrol", EVERYTHING, limit=1).next
    for kind, selection in (("warning", EVERYTHING), ("patrol", Selection(township=GUALI))):
        with pytest.raises(QueryInvalid):
            page(session, officer, kind, selection, limit=1, cursor=cursor)


def test_a_cursor_that_was_cut_or_changed_is_refused(session: Session, officer: SignedIn) -> None:
    for _ in range(2):
        make_patrol(session, officer)
    cursor = page(session, officer, "patrol", EVERYTHING, limit=1).next or ""
    packed = base64.urlsafe_b64decode(cursor + "=")
    far = base64.urlsafe_b64encode(packed[:8] + b"\x7f" + b"\xff" * 7 + packed[16:]).decode().rstrip("=")
    for broken in ("", cursor[:-1], cursor + "A", cursor + "=", " " + cursor, cursor[1:] + "A", "字" * 43, "\0", far):
        with pytest.raises(QueryInvalid):
            page(session, officer, "patrol", EVERYTHING, limit=1, cursor=broken)


NOBODY = SignedIn(1, "nobody", "admin", frozenset(), None)


@given(
    st.text(max_size=60) | st.binary(min_size=32, max_size=32).map(lambda b: base64.urlsafe_b64encode(b).decode()[:-1])
)
def test_no_text_passes_for_a_cursor(text: str) -> None:
    with Session() as session, pytest.raises(QueryInvalid):
        page(session, NOBODY, "patrol", EVERYTHING, limit=1, cursor=text)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("role", ["officer", "supervisor", "gis"])
def test_a_page_takes_the_same_number_of_queries_whatever_its_size(
    session: Session, engine: Engine, officer: SignedIn, kind: str, role: str
) -> None:
    who = dataclasses.replace(officer, role=role)
    colleague = make_signed_in(session, username="colleague")
    for n in range(30):
        out = make_patrol(session, who, crew=[colleague])
        seen = make_incident(session, out, who, items=["DEMO-SR-001"], photos=[f"{n:064x}"])
        make_warning(session, seen, who)
    numbers = set()
    for limit in (1, 5, 30):
        with count_statements(engine) as counted:
            assert len(page(session, who, kind, EVERYTHING, limit=limit).items) == limit
        numbers.add(counted.statements)
    assert numbers == {3 if kind == "warning" else 4}


def test_everything_read_in_one_transaction_is_of_one_moment(
    session: Session, engine: Engine, officer: SignedIn
) -> None:
    session.commit()
    begin_read(session)
    assert count(session, officer, "patrol", EVERYTHING) == 0
    with Session(engine) as other:
        begin_write(other)
        make_patrol(other, officer)
        other.commit()
    assert count(session, officer, "patrol", EVERYTHING) == 0
    session.rollback()
    assert count(session, officer, "patrol", EVERYTHING) == 1


# ---------------------------------------------------------------- what a record looks like


PERSONAL = {"phone": "19900001234", "plate": "浙A12345", "name": "某摊主"}
PARTY = {"name": "某人", "role": "owner", "phone": "12345", "id_number": "330109199001011234"}


@pytest.fixture
def day(session: Session, officer: SignedIn, now: dt.datetime) -> dict[str, Any]:
    """A day that came in through the front door: a patrol with a track, an incident, amended, and a warning."""
    make_account(session, username="partner")
    out = patrol()
    vendor = {"id": str(VENDOR)} | PERSONAL
    seen = incident(out, photos=[{"sha256": SHA256, "bytes": 3, "type": "image/jpeg", "role": "before"}])
    seen["body"] |= {"vendor": vendor, "parties": [PARTY], "items": ["DEMO-SR-001"]}
    told = warning(seen, vendor=str(VENDOR))
    track = operation(
        "track.append", uuid.UUID(out["record"]), body={"crs": "wgs84", "points": [[120.46, 30.18, None, 5]]}
    )
    session.commit()
    push(session, officer, batch(officer, out, seen, told, track), now)
    push(session, officer, batch(officer, amend(seen, 1, description="改后的描述")), now)
    push(session, officer, batch(officer, void(told)), now)
    return {"patrol": out, "incident": seen, "warning": told}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("role", ["officer", "gis"])
def test_a_record_is_as_the_api_document_says(
    session: Session, officer: SignedIn, day: dict[str, Any], kind: str, role: str
) -> None:
    who = dataclasses.replace(officer, role=role)
    record = orjson.loads(orjson.dumps(one(session, who, kind, uuid.UUID(day[kind]["record"]))))
    assert DOCUMENTS[kind]().validate(record) == {}
    assert record["history"]


def test_an_incident_says_who_when_where_how_sure_and_which_items(
    session: Session, officer: SignedIn, day: dict[str, Any]
) -> None:
    record = page(session, officer, "incident", EVERYTHING, limit=1).items[0]
    assert record["officer"] == {"username": "officer", "full_name": "测试 officer"}
    assert record["occurred"]["at"] == "2026-11-23T00:00:00.000Z"
    assert record["township"] == {"code": GUALI, "name": "瓜沥镇"}
    assert record["located"]["township"] == record["township"]
    assert record["position"] == {"lon": 120.46, "lat": 30.18, "error_m": 12.0, "crs": "WGS 84"}
    assert record["fix"] == day["incident"]["fix"]
    assert record["photos"] == [{**day["incident"]["photos"][0], "received": False}]
    (item,) = record["items"]
    assert (item["code"], item["delegated"], item["referred_to"]) == ("DEMO-SR-001", True, None)
    assert record["vendor"]["phone"] == PERSONAL["phone"]
    assert record["parties"] == [PARTY]


def test_an_item_that_the_township_may_not_enforce_says_whom_to_refer_it_to(
    session: Session, officer: SignedIn
) -> None:
    make_item(session, "DEMO-GM-002", delegated_to=[])
    make_incident(session, make_patrol(session, officer), officer, items=["DEMO-GM-002", "DEMO-SR-001"])
    items = page(session, officer, "incident", EVERYTHING, limit=1).items[0]["items"]
    assert [item["code"] for item in items] == ["DEMO-GM-002", "DEMO-SR-001"]
    assert not items[0]["delegated"]
    assert items[0]["referred_to"] == {"code": "zhzf", "name": "综合行政执法局"}


def test_a_patrol_names_its_crew_and_a_single_one_its_track(
    session: Session, officer: SignedIn, day: dict[str, Any]
) -> None:
    record = one(session, officer, "patrol", uuid.UUID(day["patrol"]["record"]))
    assert [member["username"] for member in record["officers"]] == ["officer", "partner"]
    assert record["tracks"][0]["points"][0][:2] == [120.46, 30.18]


def test_a_record_without_position_or_township_is_shown_all_the_same(session: Session, officer: SignedIn) -> None:
    nowhere = dict.fromkeys(
        ["fix", "lon", "lat", "error_m", "township", "township_code", "located", "located_code", "areas_edition"]
    )
    make_patrol(session, officer, **nowhere)
    record = page(session, officer, "patrol", EVERYTHING, limit=1).items[0]
    assert [record[name] for name in ("fix", "position", "located", "township")] == [None] * 4


@pytest.mark.parametrize("role", ["gis", "auditor"])
def test_personal_data_is_masked_for_roles_that_need_not_know_also_in_the_history(
    session: Session, officer: SignedIn, day: dict[str, Any], role: str
) -> None:
    who = dataclasses.replace(officer, role=role)
    told = orjson.dumps(one(session, who, "incident", uuid.UUID(day["incident"]["record"]))).decode()
    for secret in (PERSONAL["phone"], PERSONAL["plate"], PARTY["phone"], PARTY["id_number"]):
        assert secret not in told
    assert "199****1234" in told
    assert '"浙A****5"' in told
    assert '"*****"' in told


@pytest.mark.parametrize("role", ["officer", "supervisor", "reviewer", "admin"])
def test_personal_data_is_whole_for_those_who_work_with_it(
    session: Session, officer: SignedIn, day: dict[str, Any], role: str
) -> None:
    record = page(session, dataclasses.replace(officer, role=role), "incident", EVERYTHING, limit=1).items[0]
    assert record["vendor"]["plate"] == PERSONAL["plate"]


# ---------------------------------------------------------------- history


def test_the_history_tells_every_operation_as_it_was_sent(
    session: Session, officer: SignedIn, day: dict[str, Any]
) -> None:
    history = one(session, officer, "incident", uuid.UUID(day["incident"]["record"]))["history"]
    assert [(entry["kind"], entry["outcome"], entry["version"]) for entry in history] == [
        ("incident.create", "applied", 1),
        ("incident.amend", "applied", 2),
    ]
    assert history[0]["op"] == day["incident"]["op"]
    assert history[0]["sent"]["body"] == day["incident"]["body"]
    assert history[1]["sent"] == {"base": 1, "set": {"description": "改后的描述"}}
    voided = one(session, officer, "warning", uuid.UUID(day["warning"]["record"]))
    assert voided["voided"]["reason"] == voided["history"][-1]["sent"]["reason"] == "重复录入"


def test_the_points_of_a_track_are_told_once(session: Session, officer: SignedIn, day: dict[str, Any]) -> None:
    history = one(session, officer, "patrol", uuid.UUID(day["patrol"]["record"]))["history"]
    assert {entry["kind"]: entry["sent"] is None for entry in history} == {"patrol.create": False, "track.append": True}


def test_what_another_officer_tried_on_a_record_is_shown_to_a_supervisor_not_to_its_owner(
    session: Session, officer: SignedIn, day: dict[str, Any], now: dt.datetime
) -> None:
    intruder = make_signed_in(session, username="intruder")
    session.commit()
    push(session, intruder, batch(intruder, amend(day["incident"], 2, description="他人")), now)
    id = uuid.UUID(day["incident"]["record"])
    seen = {
        role: [
            entry["outcome"]
            for entry in one(session, dataclasses.replace(officer, role=role), "incident", id)["history"]
        ]
        for role in ("officer", "supervisor")
    }
    assert seen == {"officer": ["applied"] * 2, "supervisor": ["applied"] * 2 + ["quarantined"]}


def test_a_record_of_another_kind_is_not_found(session: Session, officer: SignedIn) -> None:
    out = make_patrol(session, officer)
    with pytest.raises(NotFound):
        one(session, officer, "incident", out.id)
