"""Layers as programs that nobody here wrote read them: GDAL's OAPIF driver, OWSLib, schemathesis, geojson-validator.

On a real server, with an access token as HTTP Basic. What they count is what SQL counts.
"""

from __future__ import annotations

import datetime as dt
import json
import shutil
import subprocess
import sys
import urllib.request
from base64 import b64encode
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import geojson_validator
import numpy as np
import pyogrio
import pyproj
import pytest
import shapely
from owslib.ogcapi.features import Features
from owslib.util import Authentication
from sqlalchemy import Engine, func, select
from sqlalchemy.orm import Session

from sync import accounts, journal
from sync.layers import LAYERS
from sync.models import Incident, begin_write
from tests.builders import GUALI, YINONG, make_lists, make_signed_in
from tests.conftest import opened
from tests.journeys.serving import running
from tests.sync.records import NOW, make_incident, make_patrol, make_track, make_warning

EPSG = "http://www.opengis.net/def/crs/EPSG/0/"
#: More than a page of GDAL's holds, so that it has to turn some.
INCIDENTS = 230


@dataclass(frozen=True)
class Site:
    """A running server, a token for it, and its database."""

    url: str
    token: str
    engine: Engine
    folder: Path

    def count(self, *where: Any) -> int:
        """How many incidents there are, asked of the database itself."""
        with Session(self.engine) as session:
            return session.execute(select(func.count()).select_from(Incident).where(*where)).scalar_one()


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def site(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    folder = tmp_path_factory.mktemp("gis")
    if request.param == "sqlite":
        shutil.copy(request.getfixturevalue("_sqlite_file"), folder / "field.sqlite")
        url = f"sqlite:///{folder / 'field.sqlite'}"
    else:
        url = request.getfixturevalue("postgresql").create_database(request.getfixturevalue("template"))
    with opened(url) as engine:
        token = _furnish(engine)
        with running("gunicorn", url, folder) as server:
            before = pyogrio.get_gdal_config_option("GDAL_HTTP_USERPWD")
            pyogrio.set_gdal_config_options({"GDAL_HTTP_USERPWD": f"any name:{token}"})
            yield Site(server.url, token, engine, folder)
            pyogrio.set_gdal_config_options({"GDAL_HTTP_USERPWD": before})


def _furnish(engine: Engine) -> str:
    with Session(engine) as session:
        begin_write(session)
        journal.start(session)
        make_lists(session)
        officer, gis = make_signed_in(session), make_signed_in(session, username="gis", role="gis")
        patrol = make_patrol(session, officer)
        make_track(session, patrol, officer, [(120.42, 30.15), (120.48, 30.21), (120.49, 30.2)])
        for n in range(INCIDENTS):
            seen = make_incident(
                session,
                patrol,
                officer,
                items=["DEMO-SR-001"],
                occurred_at=NOW + dt.timedelta(minutes=n),
                lon=None if n == 7 else 120.4 + n / 1024,
                lat=None if n == 7 else 30.1 + n / 2048,
                township_code=YINONG if n % 2 else GUALI,
                description=f"第 {n} 次：占道经营",
                error_m=n / 4,
            )
        make_warning(session, seen, officer)
        token, _ = accounts.issue_access_token(session, gis, "GDAL", 1, now=dt.datetime.now(dt.UTC))
        session.commit()
    return token


# ---------------------------------------------------------------- GDAL


def read(site: Site, layer: str = "incidents", **options: Any) -> tuple[Any, dict[str, Any]]:
    """Geometries, and values by the names of their fields, as GDAL reads them page by page."""
    meta, _, shapes, columns = pyogrio.raw.read(f"OAPIF:{site.url}/ogc", layer=layer, PAGE_SIZE="97", **options)
    return shapely.from_wkb(shapes), dict(zip(meta["fields"], columns, strict=True))


def test_gdal_finds_every_layer_and_counts_what_sql_counts(site: Site) -> None:
    found = dict(pyogrio.list_layers(f"OAPIF:{site.url}/ogc"))
    assert set(found) == set(LAYERS)
    assert (found["incidents"], found["patrols"], found["townships"]) == ("Point", "MultiLineString", "Polygon")
    assert pyogrio.read_info(f"OAPIF:{site.url}/ogc", layer="incidents")["features"] == site.count() == INCIDENTS
    for layer, number in {"warnings": 1, "patrols": 1, "designated-places": 1, "townships": 2}.items():
        assert len(read(site, layer)[0]) == number


def test_gdal_reads_every_page_with_text_times_and_numbers_intact(site: Site) -> None:
    shapes, told = read(site)
    assert len(shapes) == len(set(told["id"])) == INCIDENTS
    assert sum(shape is None for shape in shapes) == 1
    order = np.argsort(told["occurred_at"])
    assert told["description"][order].tolist() == [f"第 {n} 次：占道经营" for n in range(INCIDENTS)]
    assert told["error_m"][order].tolist() == [n / 4 for n in range(INCIDENTS)]
    assert told["occurred_at"].dtype == "datetime64[ms]"
    first = np.datetime64(NOW.replace(tzinfo=None), "ms")
    assert (told["occurred_at"][order] - first).astype(int).tolist() == [60_000 * n for n in range(INCIDENTS)]
    assert [shape.x for shape in shapes[order] if shape][100] == 120.4 + 101 / 1024


@pytest.mark.parametrize("code", [4326, 4490, 3857, 4549])
@pytest.mark.parametrize("layer", ["incidents", "patrols", "townships"])
def test_gdal_gets_the_axes_of_every_system_right(site: Site, code: int, layer: str) -> None:
    plain, told = read(site, layer)
    there, again = read(site, layer, CRS=f"{EPSG}{code}")
    assert told["id"].tolist() == again["id"].tolist()
    project = pyproj.Transformer.from_crs("EPSG:4490" if code in (4490, 4549) else "EPSG:4326", code, always_xy=True)
    for before, after in zip(plain, there, strict=True):
        if before is not None:
            expected = np.column_stack(project.transform(*shapely.get_coordinates(before).T))
            tolerance = 1e-9 if code in (4326, 4490) else 1e-4
            assert np.abs(shapely.get_coordinates(after) - expected).max() < tolerance


@pytest.mark.parametrize("code", [None, 4490, 3857, 4549])
def test_gdal_asks_for_a_box_in_every_system(site: Site, code: int | None) -> None:
    box = (120.45, 30.12, 120.51, 30.155)
    inside = Incident.lon.between(box[0], box[2]), Incident.lat.between(box[1], box[3])
    if code is None:
        shapes, _ = read(site, bbox=box)
    else:
        project = pyproj.Transformer.from_crs("EPSG:4490" if code != 3857 else "EPSG:4326", code, always_xy=True)
        corners = project.transform([box[0], box[2]], [box[1], box[3]])
        shapes, _ = read(site, CRS=f"{EPSG}{code}", bbox=(corners[0][0], corners[1][0], corners[0][1], corners[1][1]))
    assert len(shapes) == site.count(*inside) > 20


def test_gdal_filters_by_time_and_attributes(site: Site) -> None:
    _, told = read(site, where=f"township = '{YINONG}'")
    assert len(told["id"]) == site.count(Incident.township_code == YINONG) == INCIDENTS // 2
    _, told = read(site, where="occurred_at >= '2026-11-23T10:00:00Z' AND occurred_at <= '2026-11-23T11:00:00Z'")
    assert len(told["id"]) == 61


def test_gdal_is_turned_away_without_a_token(site: Site) -> None:
    pyogrio.set_gdal_config_options({"GDAL_HTTP_USERPWD": "gis:wrong"})
    with pytest.raises(Exception, match="401"):
        read(site)
    pyogrio.set_gdal_config_options({"GDAL_HTTP_USERPWD": f"gis:{site.token}"})


# ---------------------------------------------------------------- OWSLib


@pytest.fixture(scope="module")
def owslib(site: Site) -> Features:
    return Features(f"{site.url}/ogc/", auth=Authentication(username="gis", password=site.token))


def test_owslib_reads_the_service_and_every_collection(site: Site, owslib: Features) -> None:
    assert owslib.feature_collections() == list(LAYERS)
    assert "http://www.opengis.net/spec/ogcapi-features-1/1.0/conf/core" in owslib.conformance()["conformsTo"]
    assert owslib.api()["openapi"].startswith("3.0")
    for layer in LAYERS:
        assert owslib.collection(layer)["id"] == layer
        assert owslib.collection_queryables(layer)["type"] == "object"
        items = owslib.collection_items(layer)
        one = owslib.collection_item(layer, items["features"][0]["id"])
        assert one["properties"] == items["features"][0]["properties"]


def test_owslib_counts_what_sql_counts(site: Site, owslib: Features) -> None:
    said: dict[str, Any] = {"bbox": [120.45, 30.12, 120.51, 30.155], "limit": 5}
    inside = Incident.lon.between(120.45, 120.51), Incident.lat.between(30.12, 30.155)
    assert owslib.collection_items("incidents", **said)["numberMatched"] == site.count(*inside)
    late = owslib.collection_items("incidents", datetime_="2026-11-23T10:00:00Z/..")["numberMatched"]
    assert late == site.count(Incident.occurred_at >= dt.datetime(2026, 11, 23, 10, tzinfo=dt.UTC))
    filtered = owslib.collection_items("incidents", filter=f"township = '{GUALI}' AND error_m BETWEEN 10 AND 20")
    assert filtered["numberMatched"] == site.count(Incident.township_code == GUALI, Incident.error_m.between(10, 20))


# ---------------------------------------------------------------- validators


@pytest.mark.parametrize("layer", LAYERS)
def test_pages_are_valid_geojson(site: Site, layer: str) -> None:
    told = json.loads(get(site, f"/ogc/collections/{layer}/items?limit=50"))
    plain = {"type": told["type"], "features": told["features"]}
    assert geojson_validator.validate_structure(plain) == {}
    found = geojson_validator.validate_geometries(plain)
    assert not found.get("invalid"), found


def test_schemathesis_finds_nothing(site: Site) -> None:
    document = json.loads(get(site, "/ogc/api"))
    for parameters in _parameters(document):
        for parameter in parameters:
            if parameter.get("name") == "limit":
                del parameter["schema"]["maximum"]  # Part 1 has a larger one cut, where schemathesis wants it refused
    (site.folder / "api.json").write_text(json.dumps(document))
    command = [str(Path(sys.executable).with_name("schemathesis")), "run", "api.json", "--url", f"{site.url}/ogc"]
    command += ["--header", f"Authorization: Bearer {site.token}", "--seed", "1", "--max-examples", "3", "--no-color"]
    # What is a text to the schema need not be a filter or a cursor.
    command += ["--exclude-checks", "positive_data_acceptance", "--phases", "examples,coverage,fuzzing"]
    half = "collections/incidents.*" if site.engine.dialect.name == "postgresql" else "collections/townships.*"
    command += ["--include-path-regex", f"^/(api|conformance|collections|{half})?$"]
    done = subprocess.run(command, cwd=site.folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr
    assert "internal" not in (site.folder / "server.log").read_text()


def _parameters(document: dict[str, Any]) -> Iterator[list[dict[str, Any]]]:
    for path in document["paths"].values():
        yield path["get"]["parameters"]
    yield list(document["components"]["parameters"].values())


def get(site: Site, path: str) -> bytes:
    shown = b64encode(f"gis:{site.token}".encode()).decode()
    request = urllib.request.Request(site.url + path, headers={"Authorization": f"Basic {shown}"})
    with urllib.request.urlopen(request) as answer:
        content: bytes = answer.read()
        return content
