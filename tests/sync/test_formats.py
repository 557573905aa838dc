"""Every format read back by what nobody here wrote: GDAL, validators, PROJ. Values, Chinese, instants, NULLs, places."""

from __future__ import annotations

import datetime as dt
import json
import sqlite3
import struct
import uuid
import zipfile
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import arro3.core as arrow
import arro3.io as arrow_files
import geojson_validator
import geoparquet_validator
import numpy as np
import pyogrio
import pyproj
import pytest
import shapely
from sqlalchemy.orm import Session

from sync import export, formats, layers, places
from sync.formats import FORMATS
from sync.layers import TARGETS, Wanted
from sync.models import Incident, Patrol, SignedIn, Track, VendorWarning, begin_read
from sync.patrol_log import Selection
from sync.problems import ExportTooLarge, FormatNotInstalled, QueryInvalid
from tests.builders import make_lists, make_signed_in
from tests.sync.records import NOW, make_incident, make_patrol, make_warning

EVERYTHING = Selection()
#: Formats that have shapes.
WITH_SHAPES = [ending for ending in FORMATS if ending not in ("csv", "xlsx")]
OCCURRED = dt.datetime(2026, 11, 23, 8, 15, 2, 123_000, dt.UTC)
TEXT = '他说："快走", 😀\n然后\t离开；=1+1'


@pytest.fixture
def officer(session: Session) -> SignedIn:
    make_lists(session)
    return make_signed_in(session)


@pytest.fixture
def out(session: Session, officer: SignedIn) -> Patrol:
    return make_patrol(session, officer)


@pytest.fixture
def seen(session: Session, out: Patrol, officer: SignedIn) -> Incident:
    """An incident that has something to say, and an older one that has no place and nothing else either."""
    said = {"description": TEXT, "measures": ["educate", "guide"], "occurred_at": OCCURRED, "lon": 120.46, "lat": 30.18}
    told = {"name": "某摊主", "phone": "19900001234", "plate": "浙A12345"}
    made = make_incident(session, out, officer, items=["DEMO-SR-001"], photos=["ab" * 32], vendor=told, **said)
    make_incident(session, out, officer, occurred_at=NOW - dt.timedelta(days=1), lon=None, lat=None, error_m=None)
    return made


def written(
    session: Session, who: SignedIn, folder: Path, ending: str, kind: str = "incident", **wanted: Any
) -> Path:
    """The file, whole."""
    session.commit()
    begin_read(session)
    path = folder / f"{uuid.uuid4().hex}.{ending}"
    export.write(session, who, Wanted(kind, EVERYTHING, **wanted), ending, path)
    session.rollback()
    return path


def by_gdal(path: Path) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """What GDAL says of the file's one layer, and its records, each with its `shape`; instants as GDAL tells them."""
    at = f"/vsizip/{path}/incidents.shp" if path.name.endswith("shp.zip") else str(path)
    told, _, places, columns = pyogrio.raw.read(at, datetime_as_string=True)
    records = [dict(zip(told["fields"], row, strict=True)) for row in zip(*columns, strict=True)]
    return told, [{**record, "shape": shape(wkb)} for record, wkb in zip(records, places, strict=True)]


def parquet_rows(path: Path) -> list[dict[str, Any]]:
    batches = list(arrow_files.read_parquet(path))
    return [row for batch in batches for row in batch.to_struct_array().to_pylist()] if False else [
        {name: batch.column(name)[at].as_py() for name in batch.schema.names} for batch in batches for at in range(batch.num_rows)
    ]


def shape(wkb: bytes | None) -> Any:
    return None if wkb is None else shapely.from_wkb(wkb)


@pytest.mark.parametrize("ending", WITH_SHAPES)
def test_gdal_reads_every_format_with_its_values_chinese_and_nulls(
    session: Session, officer: SignedIn, seen: Incident, tmp_path: Path, ending: str
) -> None:
    if ending == "parquet":  # GDAL's wheel can't read it: below
        return
    _, records = by_gdal(written(session, officer, tmp_path, ending))
    name = {"shp.zip": {"description": "descr", "township_name": "town_name", "occurred_error_ms": "occ_err_ms"}}
    called = name.get(ending, {})
    first, second = records
    assert first["id"] == str(seen.id)
    assert first[called.get("description", "description")] == TEXT
    assert first[called.get("township_name", "township_name")] == "瓜沥镇"
    assert first[called.get("occurred_error_ms", "occurred_error_ms")] == 180
    assert first["error_m"] == 12.0
    assert list_of(first["measures"]) == ["educate", "guide"]
    assert first["photos"] == 1
    assert is_null(second[called.get("description", "description")])
    assert is_null(second["error_m"])
    assert [record["shape"] for record in records] == [shapely.Point(120.46, 30.18), None]
    assert {record["crs"] for record in records} == {"WGS 84"}


def list_of(told: Any) -> list[str]:
    """A list, as formats without lists tell it too."""
    return told.split(";") if isinstance(told, str) else list(told)


def is_null(value: Any) -> bool:
    return value is None or value == "" or value != value


@pytest.mark.parametrize("ending", WITH_SHAPES)
def test_instants_say_that_they_are_utc(
    session: Session, officer: SignedIn, seen: Incident, tmp_path: Path, ending: str
) -> None:
    path = written(session, officer, tmp_path, ending)
    if ending == "parquet":
        first, name = parquet_rows(path)[0], "occurred_at"
    else:
        (_, (first, _)), name = by_gdal(path), "occurred" if ending == "shp.zip" else "occurred_at"
    print(ending, repr(first[name]))
    assert 0
