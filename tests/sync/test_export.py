"""Incidents out: the same records as the list, in files that other programs read, in memory that stays flat."""

from __future__ import annotations

import csv
import dataclasses
import datetime as dt
import io
import json
import tracemalloc
import uuid
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, func, select, text
from sqlalchemy.orm import Session

from sync import columns, export, groups, journal
from sync.columns import Wanted
from sync.formats import FORMATS
from sync.groups import Word
from sync.journal import Change
from sync.models import Incident, Patrol, SignedIn, Track, Vendor, begin_read, begin_write, insert_rows
from sync.patrol_log import Selection, page
from sync.problems import CursorExpired, Problem, QueryInvalid
from tests.builders import GUALI, YINONG, make_item, make_lists, make_signed_in
from tests.sync.records import NOW, make_incident, make_patrol, recorded

EVERYTHING, EXPANDED = Selection(), Selection(grouped="expand")
SECOND, LATER = dt.timedelta(seconds=1), NOW + dt.timedelta(hours=1)
Features = Callable[..., list[dict[str, Any]]]
Lines = Callable[..., list[dict[str, str]]]


@pytest.fixture
def officer(session: Session) -> SignedIn:
    make_lists(session)
    return make_signed_in(session)


@pytest.fixture
def out(session: Session, officer: SignedIn) -> Patrol:
    return make_patrol(session, officer)


def write(session: Session, who: SignedIn, wanted: Wanted, ending: str, folder: Path) -> Path:
    """The file, whole; what was not committed is written too."""
    path = folder / f"{uuid.uuid4().hex}.{ending}"
    export.write(session, who, wanted, ending, path)
    return path


@pytest.fixture
def features(session: Session, tmp_path: Path) -> Callable[..., list[dict[str, Any]]]:
    """The features of the GeoJSON as a strict reader sees them."""

    def read(who: SignedIn, selection: Selection = EVERYTHING, **wanted: Any) -> list[dict[str, Any]]:
        path = write(session, who, Wanted("incident", selection, **wanted), "geojson", tmp_path)
        collection = json.loads(path.read_bytes())
        assert collection["type"] == "FeatureCollection"
        return list(collection["features"])

    return read


@pytest.fixture
def lines(session: Session, tmp_path: Path) -> Callable[..., list[dict[str, str]]]:
    """The lines of the CSV by the names above them."""

    def read(who: SignedIn, selection: Selection = EVERYTHING, **wanted: Any) -> list[dict[str, str]]:
        path = write(session, who, Wanted("incident", selection, **wanted), "csv", tmp_path)
        return list(csv.DictReader(io.StringIO(path.read_bytes().decode("utf-8-sig"), newline="")))

    return read


def test_both_files_hold_what_the_list_shows_in_its_order(
    session: Session, officer: SignedIn, out: Patrol, features: Features, lines: Lines
) -> None:
    for n in range(5):
        make_incident(session, out, officer, occurred_at=NOW - dt.timedelta(minutes=n % 3))
    make_incident(session, out, officer, voided_at=NOW)
    make_incident(session, out, officer, township_code=YINONG)
    make_incident(session, out, make_signed_in(session, username="colleague"))
    asked = Selection(township=GUALI)
    shown = [record["id"] for record in page(session, officer, "incident", asked, limit=100).items]
    assert len(shown) == 5
    assert [feature["id"] for feature in features(officer, asked)] == shown
    assert [line["id"] for line in lines(officer, asked)] == shown


def test_a_feature_says_everything_flat_with_items_photos_and_names(
    session: Session, officer: SignedIn, out: Patrol, features: Features
) -> None:
    make_item(session, "DEMO-GM-002", delegated_to=[])
    items, photos = ["DEMO-SR-001", "DEMO-GM-002"], ["aa" * 32, "bb" * 32]
    vendor = Vendor(id=uuid.uuid4(), created_at=NOW)
    session.add(vendor)
    session.flush()
    told = {"id": str(vendor.id), "name": "某摊主", "phone": "19900001234"}
    make_incident(
        session, out, officer, items=items, photos=photos, vendor_id=vendor.id, vendor=told, measures=["guide"]
    )
    (feature,) = features(officer, in_full=True)
    assert feature["geometry"] == {"type": "Point", "coordinates": [120.46, 30.18]}
    said = feature["properties"]
    assert said["occurred_at"] == "2026-11-23T08:15:00.000Z"
    assert (said["officer"], said["township_name"]) == ("officer", "瓜沥镇")
    assert (said["items"], said["referred_to"]) == (items, ["zhzf", "zhzf"])
    assert said["domains"] == ["市容环卫"] * 2
    assert (said["photos"], said["photos_missing"]) == (2, 2)
    assert (said["vendor_name"], said["vendor_phone"], said["vendor_plate"]) == ("某摊主", "19900001234", None)
    assert said["measures"] == ["guide"]
    assert "parties" not in said


def test_a_vendor_is_masked_unless_asked_for(session: Session, officer: SignedIn, out: Patrol, lines: Lines) -> None:
    make_incident(session, out, officer, vendor={"name": "某摊主", "phone": "19900001234", "plate": "浙A12345"})
    (line,) = lines(officer)
    assert (line["vendor_phone"], line["vendor_plate"]) == ("199****1234", "浙A****5")
    (line,) = lines(officer, in_full=True)
    assert (line["vendor_phone"], line["vendor_plate"]) == ("19900001234", "浙A12345")


def test_an_incident_without_a_position_has_a_null_geometry(
    session: Session, officer: SignedIn, out: Patrol, features: Features, lines: Lines
) -> None:
    make_incident(session, out, officer, lon=None, lat=None, error_m=None)
    assert [feature["geometry"] for feature in features(officer)] == [None]
    assert [line["lon"] for line in lines(officer)] == [""]


def test_the_csv_starts_with_a_byte_order_mark_and_names_and_ends_its_lines_as_rfc_4180_says(
    session: Session, officer: SignedIn, tmp_path: Path
) -> None:
    asked = Wanted("incident", EVERYTHING, fields=("occurred_at", "lon"))
    file = write(session, officer, asked, "csv", tmp_path).read_bytes()
    assert file == b"\xef\xbb\xbfid,occurred_at,lon,crs\r\n"


def test_no_cell_of_the_csv_is_a_formula_and_numbers_stay_numbers(
    session: Session, officer: SignedIn, out: Patrol, lines: Lines
) -> None:
    dangerous = ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1", "\n=1", "＝1", "＋1", "－1", "＠1"]
    for description in dangerous:
        make_incident(session, out, officer, description=description, lon=-120.5)
    found = lines(officer)
    assert {line["description"] for line in found} == {f"'{description}" for description in dangerous}
    assert {line["lon"] for line in found} == {"-120.5"}


def test_quotes_commas_and_line_breaks_survive_the_csv(
    session: Session, officer: SignedIn, out: Patrol, lines: Lines, tmp_path: Path
) -> None:
    description = '他说："快走",\r\n然后\n离开'
    make_incident(session, out, officer, description=description, measures=["educate", "guide"])
    (line,) = lines(officer)
    assert line["description"] == description
    assert line["measures"] == "educate;guide"
    file = write(session, officer, Wanted("incident", EVERYTHING), "csv", tmp_path).read_bytes()
    assert file.count(b"\r\n") == 3


def test_a_file_without_incidents_is_whole(
    session: Session, officer: SignedIn, features: Features, lines: Lines
) -> None:
    assert features(officer) == []
    assert lines(officer) == []


# ---------------------------------------------------------------- many


def many(session: Session, officer: SignedIn, out: Patrol, number: int) -> list[uuid.UUID]:
    """So many incidents, newest first."""
    basis = recorded(officer) | {
        **dict.fromkeys(Incident.__table__.columns.keys()),
        **recorded(officer),
        "patrol": out.id,
        "items": [],
        "measures": [],
        "parties": [],
        "description": "占道经营" * 20,
    }
    rows = [basis | {"id": uuid.uuid4(), "occurred_at": NOW - dt.timedelta(seconds=n)} for n in range(number)]
    insert_rows(session, Incident, rows)
    return [row["id"] for row in rows]


def spoil(session: Session, id: uuid.UUID) -> None:
    """What the record says of its photos can't be read any more, as if the disk had failed."""
    broken = text("UPDATE incidents SET photos = '[unexpected' WHERE id = :id")
    session.execute(broken.bindparams(id=id.hex if session.get_bind().dialect.name == "sqlite" else id))


def test_what_the_database_or_a_record_raises_is_raised_whatever_writes(
    session: Session, officer: SignedIn, out: Patrol, tmp_path: Path
) -> None:
    spoil(session, many(session, officer, out, 2 * columns.CHUNK)[-1])
    for ending in FORMATS:
        with pytest.raises(ValueError, match="unexpected"):
            write(session, officer, Wanted("incident", EVERYTHING), ending, tmp_path)


def test_chunks_join_without_a_seam(
    session: Session, officer: SignedIn, out: Patrol, features: Features, lines: Lines
) -> None:
    made = [str(id) for id in many(session, officer, out, 2 * columns.CHUNK + 1)]
    assert [feature["id"] for feature in features(officer)] == made
    assert [line["id"] for line in lines(officer)] == made


@pytest.mark.parametrize("ending", ["csv", "geojson", "gpkg"])
def test_memory_stays_flat_however_many_incidents_there_are(
    session: Session, officer: SignedIn, out: Patrol, tmp_path: Path, ending: str
) -> None:
    peaks = []
    for _ in range(2):
        many(session, officer, out, 5 * columns.CHUNK)
        tracemalloc.start()
        write(session, officer, Wanted("incident", EVERYTHING), ending, tmp_path)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < 1.2 * peaks[0]


def test_an_export_is_of_one_moment(
    session: Session, engine: Engine, officer: SignedIn, out: Patrol, lines: Lines
) -> None:
    session.commit()
    begin_read(session)
    export.tag(session, officer, Wanted("incident", EVERYTHING), "csv")
    with Session(engine) as other:
        begin_write(other)
        make_incident(other, out, officer)
        other.commit()
    assert lines(officer) == []


def test_the_session_goes_on_after_nobody_read_on(session: Session, officer: SignedIn, out: Patrol) -> None:
    many(session, officer, out, 3 * columns.CHUNK)
    session.commit()
    _, chunks = columns.read(session, officer, Wanted("incident", EVERYTHING))
    assert len(next(chunks)) == columns.CHUNK
    del chunks
    session.rollback()
    assert session.scalar(select(func.count()).select_from(Incident)) == 3 * columns.CHUNK


# ---------------------------------------------------------------- what has changed


@pytest.fixture
def reviewer(session: Session, officer: SignedIn) -> SignedIn:
    return make_signed_in(session, username="reviewer", role="reviewer", townships=())


def feed(session: Session, *moved: Any, now: dt.datetime = NOW, kind: str = "incident") -> None:
    """These records, or entities, have changed now."""
    entities = [str(each.id) if hasattr(each, "id") else each for each in moved]
    journal.record(session, [Change(kind, entity, [kind, entity], new=False) for entity in entities], now=now)


def cursor(session: Session, who: SignedIn) -> str:
    return export.tag(session, who, Wanted("incident", EVERYTHING), "csv").cursor


def changes(lines: Lines, who: SignedIn, since: str, selection: Selection = EVERYTHING) -> dict[str, str]:
    """What the file with changes says, by id."""
    return {line["id"]: line["change"] for line in lines(who, selection, since=since)}


def test_since_a_cursor_only_what_changed_is_told_with_what_is_gone(
    session: Session, officer: SignedIn, reviewer: SignedIn, out: Patrol, lines: Lines
) -> None:
    same, amended, voided, moved = (make_incident(session, out, officer) for _ in range(4))
    feed(session, same, amended, voided, moved)
    then = cursor(session, reviewer)
    assert changes(lines, reviewer, then) == {}
    voided.voided_at, moved.township_code, amended.version = NOW, YINONG, 2
    new = make_incident(session, out, officer, received_at=LATER)
    elsewhere = make_incident(session, out, officer, received_at=LATER, township_code=YINONG)
    feed(session, amended, voided, moved, new, elsewhere, now=LATER)
    told = changes(lines, reviewer, then, Selection(township=GUALI))
    assert told == {
        str(amended.id): "put",
        str(new.id): "put",
        str(voided.id): "delete",
        str(moved.id): "delete",
    }
    assert changes(lines, reviewer, cursor(session, reviewer)) == {}


def say(session: Session, action: str, *records: Incident, undoes: Sequence[uuid.UUID] = ()) -> list[uuid.UUID]:
    """What the server said of these records has come about; the ids of its words."""
    session.flush()
    word = Word("incident", action, [each.id for each in records], "", undoes=undoes)
    journal.hold_counter(session)
    spoken = groups.say(session, [word], now=LATER)
    journal.record(session, spoken.changes, now=LATER, evidence=spoken.evidence)
    return spoken.ids


def test_what_another_stands_for_now_is_gone_and_back_when_it_stands_alone(
    session: Session, officer: SignedIn, reviewer: SignedIn, out: Patrol, lines: Lines
) -> None:
    first, second, alone = (make_incident(session, out, officer, received_at=NOW + n * SECOND) for n in range(3))
    feed(session, first, second, alone, now=NOW + 3 * SECOND)
    then = cursor(session, reviewer)
    said = say(session, "group", first, second)
    assert changes(lines, reviewer, then) == {str(first.id): "put", str(second.id): "delete"}
    assert changes(lines, reviewer, then, EXPANDED) == {str(first.id): "put", str(second.id): "put"}
    then = cursor(session, reviewer)
    say(session, "undo", first, second, undoes=said)
    assert changes(lines, reviewer, then) == {str(first.id): "put", str(second.id): "put"}


def test_what_stands_for_another_that_is_gone_is_told_though_it_did_not_change(
    session: Session, officer: SignedIn, reviewer: SignedIn, out: Patrol, lines: Lines
) -> None:
    first, second = (make_incident(session, out, officer, received_at=NOW + n * SECOND) for n in range(2))
    feed(session, first, second, now=NOW + 3 * SECOND)
    say(session, "group", first, second)
    then, asked = cursor(session, reviewer), Wanted("incident", EVERYTHING)
    etag = export.tag(session, reviewer, asked, "csv").etag
    first.voided_at = LATER
    feed(session, first, now=LATER)
    assert changes(lines, reviewer, then) == {str(second.id): "put", str(first.id): "delete"}
    assert changes(lines, reviewer, then, EXPANDED) == {str(first.id): "delete"}
    assert not export.is_current(session, reviewer, asked, "csv", etag)


def test_a_photo_that_arrives_and_a_track_that_grows_are_changes(
    session: Session, officer: SignedIn, out: Patrol, lines: Lines, tmp_path: Path
) -> None:
    seen = make_incident(session, out, officer, photos=["ab" * 32])
    feed(session, seen)
    then = cursor(session, officer)
    feed(session, f"{officer.account_id}:{'ab' * 32}", kind="arrival")
    assert changes(lines, officer, then) == {str(seen.id): "put"}
    track = Track(id=uuid.uuid4(), patrol_id=out.id, officer_id=officer.account_id, from_at=NOW, points=[])
    session.add(track)
    feed(session, track, kind="track")
    path = write(session, officer, Wanted("patrol", EVERYTHING, since=then), "geojson", tmp_path)
    (feature,) = json.loads(path.read_bytes())["features"]
    assert (feature["id"], feature["properties"]["change"]) == (str(out.id), "put")


def test_what_is_gone_is_a_row_without_a_place_in_every_format(
    session: Session, officer: SignedIn, out: Patrol, tmp_path: Path
) -> None:
    gone = make_incident(session, out, officer)
    feed(session, gone)
    then = cursor(session, officer)
    gone.voided_at = NOW
    feed(session, gone, now=LATER)
    for ending in FORMATS:
        assert write(session, officer, Wanted("incident", EVERYTHING, since=then), ending, tmp_path).stat().st_size
    features = json.loads(
        write(session, officer, Wanted("incident", EVERYTHING, since=then), "geojson", tmp_path).read_bytes()
    )["features"]
    assert [(each["id"], each["geometry"], each["properties"]["change"]) for each in features] == [
        (str(gone.id), None, "delete")
    ]


@pytest.mark.parametrize(("given", "problem"), [("nonsense", QueryInvalid), ("", QueryInvalid)])
def test_a_cursor_that_is_none_is_refused(
    session: Session, officer: SignedIn, lines: Lines, given: str, problem: type[Problem]
) -> None:
    with pytest.raises(problem) as refused:
        lines(officer, since=given)
    assert refused.value.details["errors"][0]["pointer"] == "/since"


def test_a_cursor_given_to_somebody_else_or_for_another_scope_has_expired(
    session: Session, officer: SignedIn, reviewer: SignedIn, lines: Lines
) -> None:
    with pytest.raises(CursorExpired):
        lines(officer, since=cursor(session, reviewer))
    with pytest.raises(CursorExpired):
        lines(dataclasses.replace(officer, townships=frozenset({YINONG})), since=cursor(session, officer))


def test_a_file_is_current_until_something_of_its_selection_changes(
    session: Session, officer: SignedIn, reviewer: SignedIn, out: Patrol
) -> None:
    seen = make_incident(session, out, officer)
    feed(session, seen)
    asked = Wanted("incident", Selection(township=GUALI))
    etag = export.tag(session, reviewer, asked, "csv").etag

    def current(wanted: Wanted = asked, ending: str = "csv", who: SignedIn = reviewer) -> bool:
        return export.is_current(session, who, wanted, ending, etag)

    assert current()
    assert not current(ending="gpkg")
    assert not current(Wanted("incident", Selection(township=YINONG)))
    assert not current(dataclasses.replace(asked, in_full=True))
    assert not current(who=officer)
    feed(session, make_incident(session, out, officer, township_code=YINONG, received_at=LATER), now=LATER)
    assert current()
    feed(session, seen, now=LATER)
    assert not current()
