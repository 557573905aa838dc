"""Ledgers through the door: read back by GDAL and by unzipping, pictures in the cells, originals on record."""

from __future__ import annotations

import csv
import datetime as dt
import hashlib
import io
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyogrio
import pytest
from flask.testing import FlaskClient
from sqlalchemy.orm import Session

from field_api.storage import store
from sync import access_log, darkroom
from sync.models import AnnouncedPhoto, Incident, SignedIn
from sync.store import photo_key
from tests.builders import GUALI, YINONG, make_lists, make_signed_in
from tests.builders_photos import photo
from tests.sync.records import make_incident, make_patrol

Headers = dict[str, str]
QUERY = {"township": GUALI, "month": "2026-11"}
#: The first instant of November in China.
BEGINS = dt.datetime(2026, 10, 31, 16, tzinfo=dt.UTC)


@pytest.fixture
def photos() -> dict[str, bytes]:
    """Two photos, one of before and one of after, by their digest."""
    return {hashlib.sha256(made).hexdigest(): made for made in (photo(seed=1), photo(seed=2))}


@pytest.fixture
def boss(client: FlaskClient, session: Session, photos: dict[str, bytes]) -> SignedIn:
    """A supervisor in whose township an incident with both photos was recorded."""
    make_lists(session)
    who = make_signed_in(session, username="boss", role="supervisor")
    out = make_patrol(session, who)
    vendor = {"name": "某摊主", "phone": "19900001234"}
    seen = make_incident(
        session, out, who, items=["DEMO-SR-001"], photos=list(photos), occurred_at=BEGINS, vendor=vendor
    )
    told = [{"sha256": sha256, "role": role} for sha256, role in zip(photos, ("before", "after"), strict=True)]
    seen.photos = told
    session.query(AnnouncedPhoto).update({"received_at": BEGINS})
    for other in ({"occurred_at": BEGINS - dt.timedelta(seconds=1)}, {"township_code": YINONG}):
        make_incident(session, out, who, **{"occurred_at": BEGINS, **other})
    session.commit()
    with client.application.app_context():
        for sha256, made in photos.items():
            with store().incoming() as file:
                file.write(made)
                store().keep(file, photo_key(sha256))
            darkroom.look(store(), sha256)
    return who


def get(client: FlaskClient, headers: Headers, file: str, **query: str) -> Any:
    return client.get(f"/api/v1/exports/{file}", query_string=QUERY | query, headers=headers)


def test_a_ledger_has_a_row_for_each_incident_of_the_month_with_pictures_in_its_cells(
    client: FlaskClient, session: Session, boss: SignedIn, bearer: Callable[..., Headers], tmp_path: Path
) -> None:
    with get(client, bearer(boss), "ledger.xlsx") as answer:
        assert answer.status_code == 200
        assert answer.headers["Content-Disposition"] == f'attachment; filename="ledger-{GUALI}-2026-11.xlsx"'
        (tmp_path / "ledger.xlsx").write_bytes(answer.get_data())
    told, _, _, columns = pyogrio.raw.read(tmp_path / "ledger.xlsx", datetime_as_string=True)
    assert {len(column) for column in columns} == {1}
    first = {name: column[0] for name, column in zip(told["fields"], columns, strict=True)}
    assert first["发生时间（北京时间）"].startswith("2026-11-01T00:00:00")
    assert (first["镇街"], first["摊主电话"]) == ("瓜沥镇", "199****1234")
    with zipfile.ZipFile(tmp_path / "ledger.xlsx") as parts:
        assert len([name for name in parts.namelist() if name.startswith("xl/media/")]) == 2
    (entry,) = access_log.entries(session)
    assert (entry.entity, entry.details["records"], entry.details["township"]) == ("ledger.xlsx", 1, GUALI)


def test_the_originals_come_in_folders_with_a_manifest_and_each_is_on_record(
    client: FlaskClient, session: Session, boss: SignedIn, bearer: Callable[..., Headers], photos: dict[str, bytes]
) -> None:
    with get(client, bearer(boss), "ledger.zip") as answer:
        assert answer.status_code == 200
        packed = zipfile.ZipFile(io.BytesIO(answer.get_data()))
    assert packed.testzip() is None
    lines = list(csv.DictReader(io.StringIO(packed.read("manifest.csv").decode("utf-8-sig"))))
    assert {line["sha256"]: packed.read(line["path"]) for line in lines} == photos
    assert {(line["state"], line["path"].split("/")[0]) for line in lines} == {("ok", "市容环卫")}
    assert {line["role"] for line in lines} == {"before", "after"}
    entries = list(access_log.entries(session))
    assert [entry.entity for entry in entries if entry.action == "export"] == ["ledger.zip"]
    assert {entry.entity for entry in entries if entry.action == "photo-original"} == set(photos)


def test_originals_that_are_gone_or_changed_are_told_in_the_manifest(
    client: FlaskClient, boss: SignedIn, bearer: Callable[..., Headers], photos: dict[str, bytes], tmp_path: Path
) -> None:
    gone, changed = photos
    (tmp_path / "photos" / photo_key(gone)).unlink()
    (tmp_path / "photos" / photo_key(changed)).write_bytes(b"something else")
    with get(client, bearer(boss), "ledger.zip") as answer:
        packed = zipfile.ZipFile(io.BytesIO(answer.get_data()))
    lines = list(csv.DictReader(io.StringIO(packed.read("manifest.csv").decode("utf-8-sig"))))
    assert {line["sha256"]: line["state"] for line in lines} == {gone: "missing", changed: "changed"}


def test_an_archive_that_breaks_off_is_no_archive(
    client: FlaskClient, boss: SignedIn, bearer: Callable[..., Headers]
) -> None:
    with get(client, bearer(boss), "ledger.zip") as answer:
        begun = next(answer.iter_encoded())
    assert begun
    with pytest.raises(zipfile.BadZipFile):
        zipfile.ZipFile(io.BytesIO(begun))


@pytest.mark.parametrize(
    ("role", "ledger", "originals"),
    [("officer", 403, 403), ("auxiliary", 403, 403), ("gis", 200, 403), ("auditor", 200, 403), ("reviewer", 200, 200)],
)
def test_ledgers_are_for_the_desk_and_originals_for_those_who_decide(
    client: FlaskClient,
    session: Session,
    boss: SignedIn,
    bearer: Callable[..., Headers],
    role: str,
    ledger: int,
    originals: int,
) -> None:
    who = make_signed_in(session, username="somebody", role=role)
    session.commit()
    headers = bearer(who)
    for file, status in (("ledger.xlsx", ledger), ("ledger.zip", originals)):
        with get(client, headers, file) as answer:
            assert answer.status_code == status
            answer.get_data()


def test_a_supervisor_of_elsewhere_gets_an_empty_ledger(
    client: FlaskClient, session: Session, boss: SignedIn, bearer: Callable[..., Headers]
) -> None:
    other = make_signed_in(session, username="other", role="supervisor", townships=(YINONG,))
    session.commit()
    with get(client, bearer(other), "ledger.zip") as answer:
        packed = zipfile.ZipFile(io.BytesIO(answer.get_data()))
    assert packed.namelist() == ["manifest.csv"]
    assert session.query(Incident).count() == 3


def test_a_query_that_makes_no_sense_is_refused_by_name(
    client: FlaskClient, boss: SignedIn, bearer: Callable[..., Headers]
) -> None:
    headers = bearer(boss)
    for name, value in (
        *(("month", "2026-13"), ("month", "0000-01"), ("month", "\0"), ("month", "9" * 5_000)),
        *(("township", "x"), ("township", "\0"), ("colour", "red")),
    ):
        answer = get(client, headers, "ledger.xlsx", **{name: value})
        assert (answer.status_code, answer.json["code"]) == (400, "query-invalid")
        assert answer.json["errors"][0]["pointer"] == f"/{name}"
    assert client.get("/api/v1/exports/ledger.zip", headers=headers).status_code == 400
