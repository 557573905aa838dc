"""Incidents out: the same records as the list, in files that other programs read, in memory that stays flat."""

from __future__ import annotations

import csv
import dataclasses
import datetime as dt
import io
import json
import tracemalloc
import uuid
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from sqlalchemy import Engine, text
from sqlalchemy.orm import Session

from sync import export
from sync.models import Incident, Patrol, SignedIn, Vendor, begin_read, begin_write, insert_rows
from sync.patrol_log import Selection, page
from tests.builders import GUALI, YINONG, make_item, make_lists, make_signed_in
from tests.sync.records import NOW, make_incident, make_patrol, recorded

EVERYTHING = Selection()
WRITERS = [export.geojson, export.as_csv]


@pytest.fixture
def officer(session: Session) -> SignedIn:
    make_lists(session)
    return make_signed_in(session)


@pytest.fixture
def out(session: Session, officer: SignedIn) -> Patrol:
    return make_patrol(session, officer)


def features(session: Session, who: SignedIn, selection: Selection = EVERYTHING) -> list[dict[str, Any]]:
    """The features of the GeoJSON as a strict reader sees them."""
    collection = json.loads(b"".join(export.geojson(session, who, selection)))
    assert collection["type"] == "FeatureCollection"
    return list(collection["features"])


def lines(session: Session, who: SignedIn, selection: Selection = EVERYTHING) -> list[dict[str, str]]:
    """The lines of the CSV by the names above them."""
    return list(csv.DictReader(io.StringIO(written(session, who, selection), newline="")))


def written(session: Session, who: SignedIn, selection: Selection = EVERYTHING) -> str:
    return b"".join(export.as_csv(session, who, selection)).decode("utf-8-sig")


def test_both_files_hold_what_the_list_shows_in_its_order(session: Session, officer: SignedIn, out: Patrol) -> None:
    for n in range(5):
        make_incident(session, out, officer, occurred_at=NOW - dt.timedelta(minutes=n % 3))
    make_incident(session, out, officer, voided_at=NOW)
    make_incident(session, out, officer, township_code=YINONG)
    make_incident(session, out, make_signed_in(session, username="colleague"))
    asked = Selection(township=GUALI)
    shown = [record["id"] for record in page(session, officer, "incident", asked, limit=100).items]
    assert len(shown) == 5
    assert [feature["id"] for feature in features(session, officer, asked)] == shown
    assert [line["id"] for line in lines(session, officer, asked)] == shown


def test_a_feature_says_everything_flat_with_items_photos_and_names(
    session: Session, officer: SignedIn, out: Patrol
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
    (feature,) = features(session, officer)
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


def test_a_vendor_is_masked_for_gis_staff(session: Session, officer: SignedIn, out: Patrol) -> None:
    make_incident(session, out, officer, vendor={"name": "某摊主", "phone": "19900001234", "plate": "浙A12345"})
    gis = dataclasses.replace(officer, role="gis")
    (line,) = lines(session, gis)
    assert (line["vendor_phone"], line["vendor_plate"]) == ("199****1234", "浙A****5")


def test_an_incident_without_a_position_has_a_null_geometry(session: Session, officer: SignedIn, out: Patrol) -> None:
    make_incident(session, out, officer, lon=None, lat=None, error_m=None)
    assert [feature["geometry"] for feature in features(session, officer)] == [None]
    assert [line["lon"] for line in lines(session, officer)] == [""]


def test_the_csv_starts_with_a_byte_order_mark_and_names_and_ends_its_lines_as_rfc_4180_says(
    session: Session, officer: SignedIn
) -> None:
    file = b"".join(export.as_csv(session, officer, EVERYTHING))
    assert file == b"\xef\xbb\xbf" + ",".join(export.COLUMNS).encode() + b"\r\n"


def test_no_cell_of_the_csv_is_a_formula_and_numbers_stay_numbers(
    session: Session, officer: SignedIn, out: Patrol
) -> None:
    dangerous = ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1", "\n=1", "＝1", "＋1", "－1", "＠1"]
    for description in dangerous:
        make_incident(session, out, officer, description=description, lon=-120.5)
    found = lines(session, officer)
    assert {line["description"] for line in found} == {f"'{description}" for description in dangerous}
    assert {line["lon"] for line in found} == {"-120.5"}


def test_quotes_commas_and_line_breaks_survive_the_csv(session: Session, officer: SignedIn, out: Patrol) -> None:
    description = '他说："快走",\r\n然后\n离开'
    make_incident(session, out, officer, description=description, measures=["educate", "guide"])
    (line,) = lines(session, officer)
    assert line["description"] == description
    assert line["measures"] == "educate;guide"
    assert written(session, officer).count("\r\n") == 3


def test_a_file_without_incidents_is_whole(session: Session, officer: SignedIn) -> None:
    assert features(session, officer) == []
    assert lines(session, officer) == []


@pytest.mark.parametrize("write", WRITERS)
def test_what_fails_at_once_fails_before_the_first_byte(
    session: Session, officer: SignedIn, out: Patrol, write: Callable[..., Iterator[bytes]]
) -> None:
    spoil(session, make_incident(session, out, officer).id)
    with pytest.raises(ValueError, match="unexpected"):
        write(session, officer, EVERYTHING)


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


@pytest.mark.parametrize("write", WRITERS)
def test_a_failure_in_mid_stream_is_raised_and_never_a_whole_file(
    session: Session, officer: SignedIn, out: Patrol, write: Callable[..., Iterator[bytes]]
) -> None:
    spoil(session, many(session, officer, out, 2 * export.CHUNK)[-1])
    stream = write(session, officer, EVERYTHING)
    got = []
    with pytest.raises(ValueError, match="unexpected"):
        got.extend(stream)
    assert got
    assert not b"".join(got).rstrip().endswith(b"]}")


def test_chunks_join_without_a_seam(session: Session, officer: SignedIn, out: Patrol) -> None:
    made = [str(id) for id in many(session, officer, out, 2 * export.CHUNK + 1)]
    assert [feature["id"] for feature in features(session, officer)] == made
    assert [line["id"] for line in lines(session, officer)] == made


@pytest.mark.parametrize("write", WRITERS)
def test_memory_stays_flat_however_many_incidents_there_are(
    session: Session, officer: SignedIn, out: Patrol, write: Callable[..., Iterator[bytes]]
) -> None:
    peaks = []
    for _ in range(2):
        many(session, officer, out, 4 * export.CHUNK)
        peaks.append(peak_bytes(write(session, officer, EVERYTHING)))
    assert peaks[1] < 1.2 * peaks[0]


def test_postgresql_keeps_the_rows_until_they_are_asked_for(
    session: Session, engine: Engine, officer: SignedIn, out: Patrol
) -> None:
    if engine.dialect.name == "sqlite":
        return  # reads from its file, row by row, and has no cursors to count
    many(session, officer, out, 2 * export.CHUNK)
    stream, cursors = export.geojson(session, officer, EVERYTHING), text("SELECT count(*) FROM pg_cursors")
    assert session.scalar(cursors) == 1
    assert list(stream)
    assert session.scalar(cursors) == 0


def peak_bytes(stream: Iterator[bytes]) -> int:
    """How many bytes were taken up at most while the stream was read."""
    tracemalloc.start()
    for _ in stream:
        pass
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return peak


def test_an_export_is_of_one_moment(session: Session, engine: Engine, officer: SignedIn, out: Patrol) -> None:
    many(session, officer, out, 2 * export.CHUNK)
    session.commit()
    begin_read(session)
    stream = export.geojson(session, officer, EVERYTHING)
    with Session(engine) as other:
        begin_write(other)
        make_incident(other, out, officer, occurred_at=NOW - dt.timedelta(days=1))
        other.commit()
    assert len(json.loads(b"".join(stream))["features"]) == 2 * export.CHUNK
