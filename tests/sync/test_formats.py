"""Every format read back by what nobody here wrote (GDAL, validators, PROJ): values, Chinese, instants, places."""

from __future__ import annotations

import csv
import datetime as dt
import json
import sqlite3
import subprocess
import sys
import uuid
import zipfile
from contextlib import closing
from itertools import product
from pathlib import Path
from typing import Any

import arro3.io as arrow_files
import geojson_validator
import geoparquet_validator
import pyogrio
import pyproj
import pytest
import shapely
from osgeo_utils.samples import validate_gpkg
from sqlalchemy.orm import Session

from sync import columns, export, formats, places, projjson
from sync.columns import TARGETS, Wanted
from sync.formats import FORMATS
from sync.models import Incident, Patrol, SignedIn, Track, begin_read
from sync.patrol_log import Selection
from sync.problems import ExportTooLarge, QueryInvalid
from tests.builders import make_lists, make_signed_in
from tests.house.source import ROOT
from tests.sync.records import NOW, make_incident, make_patrol, make_warning

EVERYTHING = Selection()
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


def written(session: Session, who: SignedIn, folder: Path, ending: str, kind: str = "incident", **wanted: Any) -> Path:
    """The file, whole."""
    session.commit()
    begin_read(session)
    path = folder / f"{uuid.uuid4().hex}.{ending}"
    export.write(session, who, Wanted(kind, EVERYTHING, **wanted), ending, path)
    session.rollback()
    return path


def by_gdal(path: Path) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """What GDAL says of the file's one layer, and its records, each with its `shape`; instants as GDAL tells them."""
    told, _, places, values = pyogrio.raw.read(opened(path), datetime_as_string=True)
    records = [dict(zip(told["fields"], row, strict=True)) for row in zip(*values, strict=True)]
    return told, [{**record, "shape": shape(wkb)} for record, wkb in zip(records, places, strict=True)]


def opened(path: Path) -> str:
    """The file, as GDAL calls it."""
    return f"/vsizip/{path}" if path.name.endswith("shp.zip") else str(path)


def parquet_rows(path: Path) -> list[dict[str, Any]]:
    """The rows of a Parquet file, which GDAL's wheel can't read."""
    return [
        {name: batch.column(name)[at].as_py() for name in batch.schema.names}
        for batch in arrow_files.read_parquet(path)
        for at in range(batch.num_rows)
    ]


def shape(wkb: bytes | None) -> Any:
    return None if wkb is None else shapely.from_wkb(wkb)


#: What formats call a column otherwise: Shapefiles hold ten letters, and KML has an `id` of its own.
CALLED = {
    "shp.zip": {
        **{"description": "descr", "township_name": "town_name", "occurred_error_ms": "occ_err_ms"},
        **{"occurred_at": "occurred", "vendor_phone": "vend_phone"},
    },
    "kml": {"id": "record_id"},
}
#: Formats that say in which system they are.
SAY_WHERE = ("gpkg", "fgb", "geojson", "shp.zip", "parquet")
READ_BY_GDAL = [ending for ending in FORMATS if ending not in ("csv", "parquet", "xlsx")]


def test_gdal_reads_values_chinese_instants_nulls_and_places(
    session: Session, officer: SignedIn, seen: Incident, tmp_path: Path
) -> None:
    for ending in READ_BY_GDAL:
        told, (first, second) = by_gdal(written(session, officer, tmp_path, ending))
        called = {name: CALLED.get(ending, {}).get(name, name) for name in ALWAYS}
        assert told["crs"] == "EPSG:4326"
        assert first[called["id"]] == str(seen.id)
        assert first[called["description"]] == TEXT
        assert first[called["township_name"]] == "瓜沥镇"
        assert first[called["occurred_at"]] == "2026-11-23T08:15:02.123Z"
        numbers = (first[called["occurred_error_ms"]], first["error_m"], first["photos"])
        assert tuple(map(float, numbers)) == (180, 12.0, 1)  # KML's are texts to GDAL
        assert list_of(first["measures"]) == ["educate", "guide"]
        assert all(is_null(second[called[name]]) for name in ("description", "error_m", "vendor_phone"))
        assert (first["shape"], second["shape"]) == (shapely.Point(120.46, 30.18), None)
        assert {first["crs"], second["crs"]} == {"WGS 84"}


ALWAYS = (
    *("id", "description", "township_name", "occurred_at", "occurred_error_ms", "error_m", "vendor_phone"),
    *("photos", "measures"),
)


def list_of(told: Any) -> list[str]:
    """A list, as formats without lists tell it too."""
    if isinstance(told, str):
        return list(json.loads(told)) if told[:1] == "[" else told.split(";")
    return list(told)


def is_null(value: Any) -> bool:
    return value is None or bool(value != value)


def test_a_geopackage_passes_the_validator_of_gdal(
    session: Session, officer: SignedIn, seen: Incident, tmp_path: Path
) -> None:
    for kind, crs in (("incident", "EPSG:4326"), ("incident", "EPSG:4549"), ("patrol", "EPSG:3857")):
        path = written(session, officer, tmp_path, "gpkg", kind, crs=crs)
        assert validate_gpkg.check(str(path), extra_checks=True, warning_as_error=True) == []


def test_a_geopackage_has_columns_of_types(session: Session, officer: SignedIn, seen: Incident, tmp_path: Path) -> None:
    with closing(sqlite3.connect(written(session, officer, tmp_path, "gpkg"))) as file:
        types = {name: type for _, name, type, *_ in file.execute("PRAGMA table_info(incidents)")}
    assert (types["occurred_at"], types["photos"], types["error_m"]) == ("DATETIME", "INTEGER", "REAL")
    assert (types["description"], types["geom"]) == ("TEXT", "POINT")


def test_geojson_passes_a_validator(session: Session, officer: SignedIn, seen: Incident, tmp_path: Path) -> None:
    for kind in ("incident", "patrol"):
        document = json.loads(written(session, officer, tmp_path, "geojson", kind).read_text("utf-8"))
        assert geojson_validator.validate_structure(document) == {}
        assert document["features"]


def test_geoparquet_passes_a_validator_and_holds_the_same(
    session: Session, officer: SignedIn, seen: Incident, tmp_path: Path
) -> None:
    for crs in TARGETS:
        for kind in ("incident", "patrol"):
            path = written(session, officer, tmp_path, "parquet", kind, crs=crs)
            assert geoparquet_validator.failed(geoparquet_validator.check(str(path)), "core") == []
        first, second = parquet_rows(written(session, officer, tmp_path, "parquet", crs=crs))
        assert (first["description"], first["occurred_at"], second["description"]) == (TEXT, OCCURRED, None)
        assert second["geometry"] is None


@pytest.mark.parametrize("epsg", [4490, 4549, 3857])
def test_the_projjson_is_what_proj_takes_for_that_system(epsg: int) -> None:
    told = projjson.of(epsg)
    assert told is not None
    assert pyproj.CRS.from_json_dict(told).equals(pyproj.CRS.from_epsg(epsg))


# ---------------------------------------------------------------- where


def test_shapes_are_where_proj_puts_them_and_the_file_says_in_which_system(
    session: Session, officer: SignedIn, seen: Incident, tmp_path: Path
) -> None:
    for ending, epsg in product(SAY_WHERE, (4490, 4549, 3857)):
        path = written(session, officer, tmp_path, ending, crs=f"EPSG:{epsg}")
        if ending == "parquet":
            first = parquet_rows(path)[0]
            there = shape(first["geometry"])
        else:
            told, (first, _) = by_gdal(path)
            there = first["shape"]
            assert pyproj.CRS(told["crs"]).to_epsg(min_confidence=20) == epsg
        right = pyproj.Transformer.from_crs(4490 if epsg == 4549 else 4326, epsg, always_xy=True).transform(
            120.46, 30.18
        )
        assert there.distance(shapely.Point(right)) < (1e-9 if epsg == 4490 else 1e-3)
        assert first["crs"] == TARGETS[f"EPSG:{epsg}"].label


def test_gcj02_is_labelled_in_every_record_and_never_taken_for_wgs84(
    session: Session, officer: SignedIn, seen: Incident, tmp_path: Path
) -> None:
    for ending in SAY_WHERE:
        path = written(session, officer, tmp_path, ending, crs="GCJ-02")
        if ending == "parquet":
            records = parquet_rows(path)
            there = shape(records[0]["geometry"])
            assert geoparquet_validator.failed(geoparquet_validator.check(str(path)), "core") == []
        else:
            told, records = by_gdal(path)
            there = records[0]["shape"]
            assert told["crs"] is None or not pyproj.CRS(told["crs"]).is_geographic
        assert (there.x, there.y) == places.gcj02_from_wgs84(120.46, 30.18)
        assert all("GCJ-02" in record["crs"] and "not WGS 84" in record["crs"] for record in records)


def test_a_table_calls_its_coordinates_by_their_system(
    session: Session, officer: SignedIn, seen: Incident, tmp_path: Path
) -> None:
    for crs in TARGETS:
        (first, second) = csv_rows(written(session, officer, tmp_path, "csv", crs=crs))
        east, north = (name for name, _ in TARGETS[crs].axes)
        assert ("lon" in first, "lat" in first) == (crs == "EPSG:4326",) * 2
        assert float(first[east]) > float(first[north]) or crs == "EPSG:4549"
        assert (second[east], second[north]) == ("", "")


def csv_rows(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8-sig", newline="") as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize("ending", ["kml", "geojsonl"])
def test_what_can_not_say_that_it_is_not_wgs84_is_refused(ending: str) -> None:
    with pytest.raises(QueryInvalid) as refused:
        formats.check(ending, TARGETS["GCJ-02"])
    assert refused.value.details["errors"][0]["pointer"] == "/crs"


# ---------------------------------------------------------------- kinds


def test_a_patrol_is_a_line_through_all_its_stretches(
    session: Session, officer: SignedIn, out: Patrol, tmp_path: Path
) -> None:
    make_patrol(session, officer, occurred_at=NOW - dt.timedelta(days=1), purpose="没有轨迹")
    way = [[120.46, 30.18], [120.47, 30.19], [120.48, 30.18]]
    for hour, points in ((9, way[2:]), (8, way[:2])):
        told = [[lon, lat, 0, 5.0] for lon, lat in points]
        from_at = NOW.replace(hour=hour)
        session.add(
            Track(id=uuid.uuid4(), patrol_id=out.id, officer_id=officer.account_id, from_at=from_at, points=told)
        )
    session.flush()
    for ending in READ_BY_GDAL:
        _, (first, second) = by_gdal(written(session, officer, tmp_path, ending, "patrol"))
        assert first["shape"] == shapely.LineString(way)
        assert second["shape"] is None
        assert list_of(first["officers"]) == ["officer"]


def test_a_warning_is_a_point_with_what_was_said(
    session: Session, officer: SignedIn, seen: Incident, tmp_path: Path
) -> None:
    make_warning(session, seen, officer, text="限期整改", deadline_on=dt.date(2026, 12, 1))
    for ending in READ_BY_GDAL:
        _, (told,) = by_gdal(written(session, officer, tmp_path, ending, "warning"))
        assert (told["text"], told["step"], told["shape"]) == ("限期整改", "education", shapely.Point(120.46, 30.18))
        assert told[{"shp.zip": "deadline"}.get(ending, "deadline_on")] == "2026-12-01"


# ---------------------------------------------------------------- a spreadsheet


def test_a_spreadsheet_has_real_dates_in_beijing_time_numbers_and_no_formula(
    session: Session, officer: SignedIn, seen: Incident, tmp_path: Path
) -> None:
    seen.description = "=1+1"
    path = written(session, officer, tmp_path, "xlsx", lang="zh")
    _, _, _, told_of = pyogrio.raw.read(path, datetime_as_string=True)
    told = pyogrio.read_info(path)
    first = {name: values[0] for name, values in zip(told["fields"], told_of, strict=True)}
    assert first["发生时间 (UTC+8)"].startswith("2026-11-23T16:15:02.123")
    assert (first["描述"], first["照片数"], first["纬度"]) == ("=1+1", 1, 30.18)
    types = dict(zip(told["fields"], told["ogr_types"], strict=True))
    assert (types["发生时间 (UTC+8)"], types["照片数"]) == ("OFTDateTime", "OFTInteger")
    with zipfile.ZipFile(path) as parts:
        assert b"<f>" not in parts.read("xl/worksheets/sheet1.xml")


def test_a_spreadsheet_that_would_lose_rows_is_refused(
    session: Session, officer: SignedIn, out: Patrol, tmp_path: Path
) -> None:
    only = columns.Column("id", "编号", heading="id")
    layout = columns.Layout("incidents", (only,), TARGETS["EPSG:4326"], is_lines=False)
    chunk = columns.Chunk([[None] * 1_000], [None] * 1_000)
    with pytest.raises(ExportTooLarge):
        FORMATS["xlsx"].write(layout, (chunk for _ in range(1_049)), tmp_path / "file.xlsx")


# ---------------------------------------------------------------- personal data


def test_personal_data_are_masked_in_every_format_unless_asked_for(
    session: Session, officer: SignedIn, seen: Incident, tmp_path: Path
) -> None:
    for ending in FORMATS:
        for in_full, told in ((False, "199****1234"), (True, "19900001234")):
            path = written(session, officer, tmp_path, ending, in_full=in_full)
            assert told in "".join(map(str, everything(path, ending)))


def everything(path: Path, ending: str) -> list[Any]:
    if ending == "parquet":
        return [value for row in parquet_rows(path) for value in row.values()]
    return list(pyogrio.raw.read(opened(path))[3])


def test_a_file_without_records_is_whole_too(session: Session, officer: SignedIn, tmp_path: Path) -> None:
    for ending in FORMATS:
        path = written(session, officer, tmp_path, ending)
        if ending == "parquet":
            assert parquet_rows(path) == []
        elif ending in ("csv", "geojsonl"):
            assert len(path.read_bytes().splitlines()) == (ending == "csv")
        elif ending == "geojson":
            assert json.loads(path.read_bytes())["features"] == []
        elif ending == "xlsx":
            assert pyogrio.raw.read(path)[3][0].tolist() == ["id"]
        else:
            assert len(pyogrio.raw.read(opened(path))[3][0]) == 0


def test_titles_of_columns_are_chinese_on_request_and_no_two_are_alike(
    session: Session, officer: SignedIn, seen: Incident, tmp_path: Path
) -> None:
    for kind in columns.NAMES:
        with written(session, officer, tmp_path, "csv", kind, lang="zh").open(encoding="utf-8-sig") as file:
            titles = next(csv.reader(file))
        assert len(set(titles)) == len(titles)
        assert not any(title.isascii() for title in titles)
    fields = pyogrio.read_info(written(session, officer, tmp_path, "gpkg", lang="zh"))["fields"]
    assert {"发生时间", "镇街", "摊主电话", "坐标系"} <= set(fields)


def test_names_for_shapefiles_are_ten_letters_and_no_two_are_alike(session: Session, officer: SignedIn) -> None:
    session.commit()
    for kind in columns.NAMES:
        layout, _ = columns.read(session, officer, Wanted(kind, EVERYTHING))
        names = [column.short for column in layout.columns]
        assert all(name.isascii() and 0 < len(name) <= 10 for name in names)
        assert len(set(names)) == len(names)
        session.rollback()


def test_a_long_text_ends_within_a_character_in_a_shapefile(
    session: Session, officer: SignedIn, seen: Incident, tmp_path: Path
) -> None:
    seen.description = "占道经营" * 100
    _, (first, _) = by_gdal(written(session, officer, tmp_path, "shp.zip"))
    assert first["descr"] == ("占道经营" * 100)[: formats.SHAPEFILE_BYTES // 3]
    with zipfile.ZipFile(written(session, officer, tmp_path, "shp.zip")) as parts:
        assert parts.read("incidents.cpg") == b"UTF-8"
        assert "descr,description" in parts.read("columns.txt").decode("utf-8-sig")


def test_columns_come_in_the_order_asked_for_behind_the_id(
    session: Session, officer: SignedIn, seen: Incident, tmp_path: Path
) -> None:
    fields = ("description", "vendor_name", "lat", "items", "description")
    rows = csv_rows(written(session, officer, tmp_path, "csv", fields=fields))
    assert list(rows[0]) == ["id", "description", "vendor_name", "lat", "items", "crs"]
    assert rows[0]["items"] == "DEMO-SR-001"
    with pytest.raises(QueryInvalid) as refused:
        written(session, officer, tmp_path, "csv", fields=("colour",))
    assert refused.value.details["errors"][0]["pointer"] == "/fields"


def test_an_unknown_format_is_refused_by_name() -> None:
    with pytest.raises(QueryInvalid) as refused:
        formats.check("dwg", TARGETS["EPSG:4326"])
    assert refused.value.details["errors"][0]["pointer"] == "/format"


def test_without_its_libraries_a_format_is_refused_and_told_what_to_install_and_the_others_go_on() -> None:
    told = subprocess.run([sys.executable, "-c", BARE], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert told.splitlines() == [
        f"{ending} {'pip install -r requirements-gis.txt' if format.is_extra else 'works'}"
        for ending, format in FORMATS.items()
    ]


#: A server where none of them is installed, as Python sees it.
BARE = """
import sys
sys.modules |= dict.fromkeys(("pyogrio", "arro3.core", "arro3.io", "xlsxwriter"))
from sync import formats, columns
for ending in formats.FORMATS:
    try:
        formats.check(ending, columns.TARGETS["EPSG:4326"])
        print(ending, "works")
    except formats.FormatNotInstalled as problem:
        print(ending, problem.details["install"])
"""
