"""OGC API – Features: what maps ask, to the letter (`real-clients`), and everybody's share of it."""

from __future__ import annotations

import datetime as dt
import itertools
import json
import re
import shutil
import uuid
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import pytest
from flask.testing import FlaskClient
from openapi_spec_validator import OpenAPIV30SpecValidator
from sqlalchemy import select
from sqlalchemy.orm import Session
from werkzeug.test import TestResponse

from field_api.app import create_app
from field_api.database import db
from field_api.settings import Settings
from sync import accounts, journal
from sync.layers import LAYERS
from sync.models import AnnouncedPhoto, Head, Incident, SignedIn, Vendor, begin_write
from tests.builders import GUALI, YINONG, make_lists, make_signed_in
from tests.conftest import opened
from tests.field_api.conftest import SECRET
from tests.sync.records import NOW, make_incident, make_patrol, make_track, make_warning

Headers = dict[str, str]
ITEMS = "/ogc/collections/incidents/items"
EPSG = "http://www.opengis.net/def/crs/EPSG/0/"
CRS84 = "http://www.opengis.net/def/crs/OGC/1.3/CRS84"


@dataclass(frozen=True)
class Office:
    """A service with something in it. Tests here only read, or put back what they changed."""

    client: FlaskClient
    session: Session
    gis: Headers
    officer: SignedIn
    seen: list[uuid.UUID]
    vendor: uuid.UUID

    def sign_in(self, username: str, role: str, townships: Iterable[str] = (GUALI,)) -> Headers:
        """Shows an access token of a new account."""
        who = make_signed_in(self.session, username=username, role=role, townships=townships)
        token, _ = accounts.issue_access_token(self.session, who, "test", 1, now=dt.datetime.now(dt.UTC))
        self.session.commit()
        return {"Authorization": f"Bearer {token}"}


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def office(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Office]:
    """An office with everything that features tell of, once for all tests: they ask more than they change."""
    folder = tmp_path_factory.mktemp("office")
    if request.param == "sqlite":
        shutil.copy(request.getfixturevalue("_sqlite_file"), folder / "field.sqlite")
        url = f"sqlite:///{folder / 'field.sqlite'}"
    else:
        server = request.getfixturevalue("postgresql")
        url = server.create_database(request.getfixturevalue("template"))
    here = {"database_url": url, "store_folder": folder / "photos"}
    app = create_app(Settings(secret=SECRET, look_every_s=0, export_every_s=0, **here))
    with opened(url) as engine, Session(engine) as session:
        begin_write(session)
        journal.start(session)
        yield _furnished(app.test_client(), session)
    app.extensions["darkroom"].close()
    with app.app_context():
        db.engine.dispose()


def _furnished(client: FlaskClient, session: Session) -> Office:
    """Nine incidents, an hour apart, from west to east; the last without a position; with all that hangs on them."""
    make_lists(session)
    officer = make_signed_in(session)
    patrol = make_patrol(session, officer)
    make_track(session, patrol, officer, [(120.42, 30.15), (120.48, 30.21)])
    vendor = Vendor(id=uuid.uuid4(), name="李四", phone="13812345678", created_at=NOW)
    session.add(vendor)
    session.flush()
    told = {"name": "李四", "phone": "13812345678", "plate": "浙A12345"}
    made = [
        make_incident(
            session,
            patrol,
            officer,
            items=["DEMO-SR-001"],
            photos=["ab" * 32, "cd" * 32] if n == 3 else [],
            occurred_at=NOW + dt.timedelta(hours=n),
            lon=None if n == 8 else round(120.43 + n / 100, 2),
            lat=None if n == 8 else round(30.15 + n / 100, 2),
            township_code=YINONG if n % 2 else GUALI,
            event_class="09001",
            event_class_edition="GB/T 47678.5-2026",
            description="<script>alert(1)</script>" * (n == 7) + f"第 {n} 次，O'Brien 50%_{'ABCabc'[n % 6]}",
            measures=["educate", "guide"],
            vendor_id=vendor.id if n == 3 else None,
            vendor=told if n == 3 else None,
        )
        for n in range(9)
    ]
    session.get_one(AnnouncedPhoto, (made[3].id, "cd" * 32)).received_at = NOW
    make_incident(session, patrol, officer, voided_at=NOW, void_reason="重复")
    make_warning(session, made[0], officer)
    whole = Office(client, session, {}, officer, [incident.id for incident in made], vendor.id)
    return replace(whole, gis=whole.sign_in("gis", "gis"))


@pytest.fixture
def client(office: Office) -> FlaskClient:
    return office.client


@pytest.fixture
def gis(office: Office) -> Headers:
    return office.gis


@pytest.fixture
def seen(office: Office) -> list[uuid.UUID]:
    return office.seen


def get(client: FlaskClient, headers: Headers, path: str = ITEMS, **query: Any) -> TestResponse:
    said = {name.replace("_crs", "-crs").replace("_lang", "-lang"): value for name, value in query.items()}
    return client.get(path, query_string=said, headers=headers)


def found(client: FlaskClient, headers: Headers, path: str = ITEMS, **query: Any) -> list[Any]:
    answer = get(client, headers, path, **query)
    assert answer.status_code == 200, answer.json
    assert answer.json["numberReturned"] == len(answer.json["features"])
    return list(answer.json["features"])


def refused(client: FlaskClient, headers: Headers, path: str = ITEMS, **query: Any) -> dict[str, Any]:
    answer = get(client, headers, path, **query)
    assert (answer.status_code, answer.json["code"]) == (400, "query-invalid")
    return dict(answer.json["errors"][0])


def link(answer: TestResponse, rel: str) -> dict[str, str] | None:
    return next((each for each in answer.json["links"] if each["rel"] == rel), None)


# ---------------------------------------------------------------- discovery


@pytest.mark.parametrize("path", ["/ogc", "/ogc/"])
def test_the_landing_page_leads_to_everything(client: FlaskClient, path: str) -> None:
    answer = client.get(path, base_url="https://field.example", headers={"Accept": "application/json"})
    assert answer.mimetype == "application/json"
    document, data = link(answer, "service-desc"), link(answer, "data")
    assert document is not None
    assert data is not None
    assert document["type"] == "application/vnd.oai.openapi+json;version=3.0"
    assert data["href"] == "https://field.example/ogc/collections"
    for rel in ("self", "conformance", "service-doc"):
        assert link(answer, rel) is not None


def test_the_service_describes_itself_in_valid_openapi_3_0_without_pointing_elsewhere(client: FlaskClient) -> None:
    answer = client.get("/ogc/api", base_url="https://field.example")
    assert answer.content_type == "application/vnd.oai.openapi+json;version=3.0"
    document = json.loads(answer.data)
    OpenAPIV30SpecValidator(document).validate()
    assert document["servers"] == [{"url": "https://field.example/ogc"}]
    assert set(re.findall(r'"\$ref":"([^"#]*)#', answer.text)) == {""}


@pytest.mark.parametrize("layer", LAYERS)
def test_the_document_has_what_qgis_and_gdal_look_for(client: FlaskClient, layer: str) -> None:
    document = json.loads(client.get("/ogc/api").data)
    path = f"/collections/{layer}"
    assert {"/conformance", "/collections", path, f"{path}/items"} <= set(document["paths"])
    told = document["paths"][f"{path}/items"]["get"]["parameters"]
    named = {each["name"]: each for each in (resolved(document, one) for one in told)}
    assert named["limit"]["schema"].items() >= {"type": "integer", "minimum": 1, "maximum": LAYERS[layer].most}.items()
    assert document["components"]["parameters"]["limit"]["schema"]["maximum"] == 1000
    assert named["bbox"]["schema"].items() >= {"type": "array", "minItems": 4, "maxItems": 6}.items()
    assert set(named["filter-lang"]["schema"]["enum"]) == {"cql2-text", "cql2-json"}
    assert {"datetime", "crs", "bbox-crs", "filter", "filter-crs"} | set(LAYERS[layer].queryables) <= set(named)
    assert all((each["style"], each["explode"]) == ("form", False) for each in named.values())


def resolved(document: Any, parameter: dict[str, Any]) -> dict[str, Any]:
    named = parameter.get("$ref", "").rpartition("/")[2]
    return dict(document["components"]["parameters"][named] if named else parameter)


def test_every_conformance_class_that_qgis_wants_before_it_filters_is_announced(client: FlaskClient) -> None:
    announced = client.get("/ogc/conformance").json["conformsTo"]
    wanted = [
        *("cql2/1.0/conf/cql2-text", "cql2/1.0/conf/basic-cql2", "cql2/1.0/conf/basic-spatial-operators"),
        *("cql2/1.0/conf/advanced-comparison-operators", "cql2/1.0/conf/case-insensitive-comparison"),
        *("ogcapi-features-3/1.0/conf/filter", "ogcapi-features-3/1.0/conf/features-filter"),
        *("ogcapi-features-2/1.0/conf/crs", "ogcapi-features-1/1.0/conf/core", "ogcapi-features-1/1.0/conf/geojson"),
    ]
    assert {f"http://www.opengis.net/spec/{name}" for name in wanted} <= set(announced)


@pytest.mark.parametrize("layer", LAYERS)
def test_a_collection_says_the_same_alone_and_in_the_list(client: FlaskClient, gis: Headers, layer: str) -> None:
    listed = {each["id"]: each for each in client.get("/ogc/collections", headers=gis).json["collections"]}
    alone = client.get(f"/ogc/collections/{layer}", headers=gis)
    assert alone.json == listed[layer]
    assert alone.json["crs"][0] == CRS84
    assert alone.json["storageCrs"] in alone.json["crs"]
    assert alone.json["extent"]["spatial"]["bbox"] == [[120.42, 30.14, 120.63, 30.24]]
    items = link(alone, "items")
    assert items is not None
    assert items["type"] == "application/geo+json"
    assert items["href"] == f"http://localhost/ogc/collections/{layer}/items"


@pytest.mark.parametrize("layer", LAYERS)
def test_what_can_be_asked_about_is_told_as_a_schema_that_qgis_takes(
    client: FlaskClient, gis: Headers, layer: str
) -> None:
    accept = gis | {"Accept": "application/schema+json"}
    answer = client.get(f"/ogc/collections/{layer}/queryables", headers=accept)
    assert answer.mimetype == "application/schema+json"
    told = answer.json["properties"]
    assert told["geometry"]["$ref"] == "https://geojson.org/schema/Geometry.json"
    assert {name for name in told if name != "geometry"} == set(LAYERS[layer].queryables)
    assert all(re.search("[\u4e00-\u9fff]", each["title"]) for each in told.values())
    schema = client.get(f"/ogc/collections/{layer}/schema", headers=accept).json["properties"]
    (feature, *_) = found(client, gis, f"/ogc/collections/{layer}/items")
    assert set(schema) - {"geometry"} == set(feature["properties"])


# ---------------------------------------------------------------- features


@pytest.mark.parametrize("layer", LAYERS)
def test_features_are_geojson_with_links_and_counts(client: FlaskClient, gis: Headers, layer: str) -> None:
    answer = client.get(f"/ogc/collections/{layer}/items", headers=gis | {"Accept": "application/geo+json"})
    assert answer.mimetype == "application/geo+json"
    assert answer.headers["Content-Crs"] == f"<{CRS84}>"
    assert set(answer.json) == {"type", "features", "links", "timeStamp", "numberMatched", "numberReturned"}
    assert answer.json["numberMatched"] == answer.json["numberReturned"] > 0
    assert link(answer, "next") is None
    (feature, *_) = answer.json["features"]
    alone = client.get(f"/ogc/collections/{layer}/items/{feature['id']}", headers=gis)
    assert {name: value for name, value in alone.json.items() if name != "links"} == feature
    assert {each["rel"] for each in alone.json["links"]} == {"self", "alternate", "collection"}
    assert all(each["type"] for each in alone.json["links"])
    assert alone.headers["Content-Crs"] == f"<{CRS84}>"


def test_a_feature_tells_what_the_record_says(client: FlaskClient, gis: Headers, seen: list[uuid.UUID]) -> None:
    feature = get(client, gis, f"{ITEMS}/{seen[5]}").json
    assert feature["id"] == str(seen[5])
    assert feature["geometry"] == {"type": "Point", "coordinates": [120.48, 30.2]}
    told = feature["properties"]
    assert told["occurred_at"] == "2026-11-23T13:15:00.000Z"
    assert (told["township"], told["township_name"], told["officer"]) == (YINONG, "益农镇", "officer")
    assert (told["items"], told["item_names"]) == ("DEMO-SR-001", "对擅自占用城市人行道设摊经营的处理")
    assert (told["event_class_name"], told["measures"]) == ("无照经营游商", "educate guide")
    assert (told["photo_count"], told["photo_missing_count"], told["photo_urls"]) == (0, 0, None)
    assert told["record_url"] == f"http://localhost/api/v1/incidents/{seen[5]}"
    assert client.get(urlsplit(told["record_url"]).path, headers=gis).status_code == 200


def test_photos_are_counted_and_those_that_arrived_are_linked(
    client: FlaskClient, gis: Headers, office: Office
) -> None:
    told = get(client, gis, f"{ITEMS}/{office.seen[3]}").json["properties"]
    assert (told["photo_count"], told["photo_missing_count"]) == (2, 1)
    assert told["photo_urls"] == f"http://localhost/api/v1/photos/{'cd' * 32}?size=screen"
    assert told["vendor"] == str(office.vendor)


@pytest.mark.parametrize("layer", LAYERS)
def test_an_unknown_feature_is_404(client: FlaskClient, gis: Headers, layer: str) -> None:
    for id in ("nothing", str(uuid.uuid4()), "%00", "a%2Fb", "%F0%9F%98%80", "-1"):
        assert client.get(f"/ogc/collections/{layer}/items/{id}", headers=gis).status_code == 404
        assert client.get(f"/ogc/collections/nothing/items/{id}", headers=gis).status_code == 404


@pytest.mark.parametrize("layer", LAYERS)
def test_pages_follow_each_other_whatever_limit_the_client_makes_of_it(
    client: FlaskClient, gis: Headers, layer: str
) -> None:
    path = f"/ogc/collections/{layer}/items"
    everything = found(client, gis, path)
    shown, query, limits = [], {"limit": "2"}, itertools.cycle("132")
    for limit in limits:
        answer = get(client, gis, path, **query)
        shown += answer.json["features"]
        assert answer.json["numberMatched"] == len(everything)
        following = link(answer, "next")
        if following is None:
            break
        assert following["href"].startswith("http://localhost/")
        parts = urlsplit(following["href"]).query.split("&")
        assert all("=" in part for part in parts)
        query = dict(parse_qsl(urlsplit(following["href"]).query)) | {"limit": limit}
    assert shown == everything


def test_a_limit_beyond_the_largest_page_is_cut(client: FlaskClient, gis: Headers) -> None:
    assert len(found(client, gis, limit="9" * 500)) == 9
    assert len(found(client, gis, limit="00000001")) == 1


@pytest.mark.parametrize(
    ("role", "townships", "number"),
    [("officer", (GUALI,), 0), ("supervisor", (GUALI,), 5), ("supervisor", (GUALI, YINONG), 9), ("auditor", (), 9)],
)
def test_nobody_sees_more_than_the_lists_show(
    client: FlaskClient, office: Office, role: str, townships: tuple[str, ...], number: int
) -> None:
    headers = office.sign_in(f"{role}{len(townships)}", role, townships)
    assert get(client, headers, limit=2).json["numberMatched"] == number
    listed = client.get("/api/v1/incidents?limit=500", headers=headers).json["items"]
    assert [each["id"] for each in found(client, headers)] == [each["id"] for each in listed]
    assert get(client, headers, f"{ITEMS}/{office.seen[1]}").status_code == (200 if number == 9 else 404)


def test_without_a_token_there_is_a_challenge_that_gis_programs_know(client: FlaskClient, seen: list[Any]) -> None:
    for path in ("/ogc/collections", ITEMS, f"{ITEMS}/{seen[0]}", "/ogc/collections/incidents/schema"):
        answer = client.get(path)
        assert answer.status_code == 401
        assert answer.headers["WWW-Authenticate"].startswith("Basic ")
    assert client.get("/api/v1/incidents").headers["WWW-Authenticate"] == "Bearer"


def test_read_only_clients_see_no_way_to_write(client: FlaskClient, gis: Headers, seen: list[Any]) -> None:
    for path in (ITEMS, f"{ITEMS}/{seen[0]}"):
        allowed = set(client.options(path, headers=gis).headers["Allow"].split(", "))
        assert allowed == {"GET", "HEAD", "OPTIONS"}
        for method in ("POST", "PUT", "PATCH", "DELETE"):
            assert client.open(path, method=method, headers=gis).status_code == 405


def test_phones_and_plates_are_nowhere_in_features(client: FlaskClient, gis: Headers) -> None:
    for layer in LAYERS:
        assert "12345" not in get(client, gis, f"/ogc/collections/{layer}/items").text


# ---------------------------------------------------------------- box and time


@pytest.mark.parametrize(
    ("bbox", "number"),
    [
        ("120.44,30.16,120.46,30.18", 3),
        ("120.44,30.16,0,120.46,30.18,100", 3),
        ("120.4299999999999999,30.15,120.43000000000000001,30.15", 1),
        ("-180,-90,180,90", 8),
        ("-270,-100,270,100", 8),
        ("177,65,-177,70", 0),
        ("120.465,-90,-177,90", 4),
        ("-180,85,180,90", 0),
        ("-180,-90,180,-85", 0),
        ("1e1,2e1,1.3e2,4E1", 8),
        ("120.44, 30.16, 120.46, 30.18", 3),
    ],
)
def test_a_box_holds_what_lies_in_it(client: FlaskClient, gis: Headers, bbox: str, number: int) -> None:
    assert len(found(client, gis, bbox=bbox)) == number


@pytest.mark.parametrize(
    "bbox", ["", "1,2,3", "1,2,3,4,5", "1,2,3,x", "nan,0,1,1", "0,0,inf,1", "0,2,1,1", "0,0,1e9999,1", "\x00"]
)
def test_what_is_no_box_is_refused(client: FlaskClient, gis: Headers, bbox: str) -> None:
    assert refused(client, gis, bbox=bbox)["pointer"] == "/bbox"


@pytest.mark.parametrize(
    ("crs", "bbox"),
    [
        (CRS84, "120.435,30.155,120.465,30.185"),
        (EPSG + "4326", "30.155,120.435,30.185,120.465"),
        (EPSG + "4490", "30.155,120.435,30.185,120.465"),
        (EPSG + "3857", "13406763,3523490,13410102,3527353"),
        (EPSG + "4549", "3337380,541902,3340720,544790"),
    ],
)
def test_a_box_may_be_given_in_every_system(client: FlaskClient, gis: Headers, crs: str, bbox: str) -> None:
    assert len(found(client, gis, bbox=bbox, bbox_crs=crs)) == 3
    west, south, east, north = bbox.split(",")
    spatial = f"S_INTERSECTS(geometry,BBOX({west},{south},{east},{north}))"
    assert len(found(client, gis, filter=spatial, filter_crs=crs)) == 3
    ring = f"{west} {south},{east} {south},{east} {north},{west} {north},{west} {south}"
    assert len(found(client, gis, filter=f"S_INTERSECTS(geometry,POLYGON(({ring})))", filter_crs=crs)) == 3


@pytest.mark.parametrize(
    ("interval", "number"),
    [
        ("2026-11-23T09:15:00Z", 1),
        ("2026-11-23T17:15:00+08:00", 1),
        ("2026-11-23T09:15:00Z/2026-11-23T11:15:00Z", 3),
        ("2026-11-23t09:15:00z/2026-11-23T11:15:00.000000000Z", 3),
        ("../2026-11-23T09:15:00Z", 2),
        ("/2026-11-23T09:15:00Z", 2),
        ("2026-11-23T14:15:00Z/..", 3),
        ("0000-01-01T00:00:00Z/2026-11-23T09:15:00Z", 2),
        ("2026-11-23T14:15:00Z/9999-12-31T23:59:59.999999Z", 3),
        ("2026-11-23T14:15:00Z/9999-12-31T23:59:59-12:00", 3),
        ("0000-01-01T00:00:00Z", 0),
        ("../..", 9),
    ],
)
def test_a_time_holds_what_happened_in_it(client: FlaskClient, gis: Headers, interval: str, number: int) -> None:
    assert len(found(client, gis, datetime=interval)) == number


@pytest.mark.parametrize(
    "interval",
    [
        *("", "..", "yesterday", "2026-11-23", "2026-11-23T09:15:00", "2026-13-01T00:00:00Z", "a/b/c", "\x00"),
        *("2026-11-24T00:00:00Z/2026-11-23T00:00:00Z", "0000-13-01T00:00:00Z", "2026-11-23T09:15:00Z/x"),
        "2026-11-23T25:00:00Z",
    ],
)
def test_what_is_no_time_is_refused(client: FlaskClient, gis: Headers, interval: str) -> None:
    assert refused(client, gis, datetime=interval)["pointer"] == "/datetime"


def test_lists_are_filtered_by_the_days_on_which_they_held(client: FlaskClient, gis: Headers) -> None:
    path = "/ogc/collections/designated-places/items"
    assert len(found(client, gis, path, datetime="2021-12-31T15:59:59Z")) == 0
    assert len(found(client, gis, path, datetime="2021-12-31T16:00:00Z")) == 1
    assert len(found(client, gis, path, datetime="2021-01-01T00:00:00Z/..")) == 1


# ---------------------------------------------------------------- other coordinate systems


@pytest.mark.parametrize(
    ("crs", "expected"),
    [
        (CRS84, [120.46, 30.18]),
        (EPSG + "4326", [30.18, 120.46]),
        (EPSG + "4490", [30.18, 120.46]),
        (EPSG + "3857", [13409545.861, 3526708.212]),
        (EPSG + "4549", [3340156.5185, 544303.609]),
    ],
)
def test_coordinates_come_in_the_system_and_the_order_asked_for(
    client: FlaskClient, gis: Headers, seen: list[uuid.UUID], crs: str, expected: list[float]
) -> None:
    answer = get(client, gis, f"{ITEMS}/{seen[3]}", crs=crs)
    assert answer.headers["Content-Crs"] == f"<{crs}>"
    assert answer.json["geometry"]["coordinates"] == pytest.approx(expected, abs=0.0002 if expected[0] > 1000 else 0)
    page = get(client, gis, crs=crs)
    assert page.headers["Content-Crs"] == f"<{crs}>"
    assert answer.json["geometry"] in [each["geometry"] for each in page.json["features"]]


def test_every_layer_is_there_in_every_system(client: FlaskClient, gis: Headers) -> None:
    for layer in LAYERS:
        shapes = [found(client, gis, f"/ogc/collections/{layer}/items", crs=crs) for crs in (CRS84, EPSG + "4549")]
        assert len(shapes[0]) == len(shapes[1]) > 0
        assert [each["id"] for each in shapes[0]] == [each["id"] for each in shapes[1]]


@pytest.mark.parametrize("parameter", ["crs", "bbox_crs", "filter_crs"])
@pytest.mark.parametrize("uri", ["http://www.opengis.net/def/crs/0/unsupported", "", "EPSG:4326", "\x00"])
def test_a_system_that_is_not_spoken_is_refused(client: FlaskClient, gis: Headers, parameter: str, uri: str) -> None:
    assert refused(client, gis, **{parameter: uri})["pointer"] == "/" + parameter.replace("_", "-")


def test_a_position_beyond_a_projection_is_no_geometry_and_no_error(
    client: FlaskClient, gis: Headers, office: Office
) -> None:
    incident = office.session.get_one(Incident, office.seen[0])
    before, (incident.lon, incident.lat) = (incident.lon, incident.lat), (-60.0, 89.9)
    office.session.commit()
    for code in ("3857", "4549"):
        shown = [each["id"] for each in found(client, gis, crs=EPSG + code) if each["geometry"]]
        assert shown == [str(id) for id in reversed(office.seen[1:8])]
    incident.lon, incident.lat = before
    office.session.commit()


# ---------------------------------------------------------------- filters


@pytest.mark.parametrize(
    ("filter", "number"),
    [
        (f"((township = '{GUALI}') AND (error_m > 10))", 5),
        (f"township IN ('{GUALI}','{YINONG}')", 9),
        ("(description LIKE '第 1%')", 1),
        ("((designated_place IS NULL) AND (version = 1))", 9),
        ("((\"occurred_at\" >= TIMESTAMP('2026-11-23T14:15:00.000Z')) AND (version = 1))", 3),
        ("(CASEI(description) LIKE CASEI('%_A'))", 3),
        ("(description LIKE '%_A')", 2),
        ("(version BETWEEN 1 AND 2 AND (error_m < 100))", 9),
        ("S_INTERSECTS(geometry,BBOX(120.44,30.16,120.46000000000000001,30.18))", 3),
        ("S_INTERSECTS(geometry,POINT(120.46 30.18))", 1),
        ("S_INTERSECTS(POLYGON((120.4 30.1,120.48 30.1,120.48 30.15,120.4 30.1)), geometry)", 0),
        ("S_INTERSECTS(geometry, MULTIPOLYGON(((120.4 30.1,120.48 30.1,120.48 30.19,120.4 30.1))))", 0),
        ("S_INTERSECTS(geometry, MULTIPOLYGON(((120.4 30.1,120.48 30.1,120.48 30.21,120.4 30.1))))", 3),
        ("geometry IS NULL", 1),
        ("NOT geometry IS NULL", 8),
        ("not (version = 1)", 0),
        ("version <> 1 or officer = 'officer'", 9),
        ("officer = officer", 9),
        ("1 = version", 9),
        ("2 > version", 9),
        ("TRUE", 9),
        ("officer_name = 'O''Brien'", 0),
        ("description LIKE '%50\\%\\_%'", 9),
        ("description LIKE '%O''Brien%'", 9),
        ("received_at = TIMESTAMP('2026-11-23T08:15:00Z')", 9),
        ("occurred_at > TIMESTAMP('0000-01-01T00:00:00Z')", 9),
        ("vendor = '00000000-0000-4000-8000-000000000000'", 0),
        ("photo_count = 0 AND photo_missing_count = 0", 8),
        ("items = 'DEMO-SR-001' AND event_class_name LIKE '无照%'", 9),
        ("notes IS NOT NULL", 0),
        ("(" * 200 + "version = 1" + ")" * 200, 9),
        (" OR ".join(["version = 1"] * 190), 9),
    ],
)
def test_a_filter_finds_what_it_says(client: FlaskClient, gis: Headers, filter: str, number: int) -> None:
    assert len(found(client, gis, filter=filter, filter_lang="cql2-text")) == number


def test_a_filter_may_be_json(client: FlaskClient, gis: Headers) -> None:
    township = {"op": "=", "args": [{"property": "township"}, GUALI]}
    box = {"op": "s_intersects", "args": [{"property": "geometry"}, {"bbox": [120.44, 30.16, 120.46, 30.18]}]}
    both = json.dumps({"op": "and", "args": [township, box]})
    assert len(found(client, gis, filter=both, filter_lang="cql2-json")) == 1


@pytest.mark.parametrize(
    ("filter", "at"),
    [
        ("version = ", 10),
        ("version == 1", 9),
        ("version = 1 AND colour = 'red'", 16),
        ("version = 'x'", 0),
        ("version = 1 AND (officer LIKE 3)", 30),
        ("foo(version) = 1", 0),
        ("occurred_at > TIMESTAMP('yesterday')", 24),
        ("S_INTERSECTS(geometry, POLYGON((0 0, 1 1)))", 23),
        ("S_INTERSECTS(geometry, POLYGON((0 0, 2 2, 2 0, 0 2, 0 0)))", 23),
        ("S_INTERSECTS(geometry, BBOX(1,2,3))", 23),
        ("S_WITHIN(geometry, POINT(1 2))", 0),
        ("officer LIKE 'x\\'", 13),
        ("version = 1e999", 10),
        ("version IN ()", 12),
        ("version = 1)", 11),
        ("officer = 'x", 10),
        ("officer", 0),
        ("officer = 'a\x00'", 12),
        ("NOT " * 100 + "version = 1", 244),
        ("", 0),
        ("photo_urls = 'x'", 0),
    ],
)
def test_a_filter_that_is_wrong_says_where(client: FlaskClient, gis: Headers, filter: str, at: int) -> None:
    error = refused(client, gis, filter=filter)
    assert (error["pointer"], error["at"]) == ("/filter", at), error


@pytest.mark.parametrize(
    ("filter", "at"),
    [
        ({"op": "and", "args": [True, {"op": "=", "args": [{"property": "colour"}, 1]}]}, "/args/1/args/0"),
        ({"op": "in", "args": [{"property": "version"}, [1, "x"]]}, ""),
        ({"op": "nothing", "args": []}, ""),
        ({"op": "=", "args": 3}, ""),
        ({"op": "=", "args": [{"property": "version"}, None]}, "/args/1"),
        ({"property": ["version"]}, ""),
        (
            {"op": "s_intersects", "args": [{"property": "geometry"}, {"type": "Point", "coordinates": []}]},
            "/args/1",
        ),
        ({"op": "s_intersects", "args": [{"property": "geometry"}, {"bbox": [1, 2, "x", 4]}]}, "/args/1"),
        ({"op": "=", "args": [{"property": "occurred_at"}, {"timestamp": 3}]}, "/args/1"),
        ([], ""),
        (None, ""),
    ],
)
def test_so_does_one_in_json(client: FlaskClient, gis: Headers, filter: Any, at: str) -> None:
    error = refused(client, gis, filter=json.dumps(filter), filter_lang="cql2-json")
    assert (error["pointer"], error["at"]) == ("/filter", at), error


@pytest.mark.parametrize("text", ["{", "NaN", "[" * 3000, '{"op": "="', "\ud800"[:0] + "{]"])
def test_what_is_no_json_is_no_filter(client: FlaskClient, gis: Headers, text: str) -> None:
    assert refused(client, gis, filter=text, filter_lang="cql2-json")["pointer"] == "/filter"


def test_layers_of_lines_and_areas_are_filtered_by_what_is_drawn(client: FlaskClient, gis: Headers) -> None:
    crossing, beside = "120.44,30.16,120.45,30.19", "120.42,30.20,120.43,30.21"
    for layer, hit, miss in (
        ("patrols", crossing, beside),
        ("patrols", "120,30,121,31", "120.5,30,121,31"),
        ("townships", "120.43,30.15,120.44,30.16", "121,31,122,32"),
        ("designated-places", "120.46,30.18,120.46,30.18", crossing),
    ):
        path = f"/ogc/collections/{layer}/items"
        assert (len(found(client, gis, path, bbox=hit)), len(found(client, gis, path, bbox=miss))) == (1, 0), layer
        west, south, east, north = hit.split(",")
        filter = f"S_INTERSECTS(geometry, LINESTRING({west} {north}, {east} {south}))"
        if hit == crossing or layer == "townships":
            assert len(found(client, gis, path, filter=filter)) == 1, layer
    patrols = "/ogc/collections/patrols/items"
    assert len(found(client, gis, patrols, filter="geometry IS NULL")) == 0
    assert len(found(client, gis, "/ogc/collections/townships/items", filter="name LIKE '瓜沥%' AND synthetic")) == 1


# ---------------------------------------------------------------- parameters


@pytest.mark.parametrize(
    ("query", "number"),
    [
        ({"township": YINONG}, 4),
        ({"officer": "officer", "q": "第 3"}, 1),
        ({"item": "DEMO-SR-001", "measure": "guide"}, 9),
        ({"from_at": "2026-11-23T14:15:00Z"}, 3),
        ({"voided": "only"}, 1),
        ({"township_name": "益农镇"}, 4),
        ({"version": "1"}, 9),
        ({"error_m": "1.25e1"}, 0),
        ({"occurred_at": "2026-11-23T09:15:00Z"}, 1),
        ({"patrol": "00000000-0000-4000-8000-000000000000"}, 0),
    ],
)
def test_filters_of_the_lists_and_properties_are_parameters(
    client: FlaskClient, gis: Headers, query: dict[str, str], number: int
) -> None:
    assert len(found(client, gis, **query)) == number


@pytest.mark.parametrize(
    "query",
    [
        {"unknownQueryParameter12345": "1"},
        {"limit": "unlimited"},
        {"limit": "0"},
        {"limit": "-1"},
        {"limit": "1e3"},
        {"limit": ""},
        {"limit": "\u0665"},
        {"f": "xml"},
        {"cursor": ""},
        {"cursor": "x"},
        {"cursor": "5.x"},
        {"cursor": "5." + "A" * 43},
        {"cursor": "\u0665.1"},
        {"version": "x"},
        {"version": "1.5"},
        {"error_m": "inf"},
        {"version": "nan"},
        {"version": "1e999"},
        {"patrol": "x"},
        {"occurred_at": "yesterday"},
        {"officer_name": "\x00"},
        {"voided": "x"},
        {"from_at": "x"},
        {"photo_urls": "x"},
        {"filter-lang": "cql-text"},
        {"bbox": "1,2,3,4", "limit": ["1", "2"]},
        {"": "x"},
        {"token": "fapi_x"},
    ],
)
def test_what_is_unknown_or_makes_no_sense_is_refused_by_name(
    client: FlaskClient, gis: Headers, query: dict[str, Any]
) -> None:
    answer = client.get(ITEMS, query_string=query, headers=gis)
    assert (answer.status_code, answer.json["code"]) == (400, "query-invalid")
    assert answer.json["errors"][0]["pointer"].strip("/") in query


@pytest.mark.parametrize(
    "path",
    ["/ogc/", "/ogc/api", "/ogc/conformance", "/ogc/collections", "/ogc/collections/patrols"]
    + [f"/ogc/collections/patrols/{name}" for name in ("schema", "queryables")],
)
def test_other_pages_take_no_parameters(client: FlaskClient, gis: Headers, path: str) -> None:
    for query in ("x=1", "f=xml", "f=json&f=json", "%00=1"):
        assert client.get(f"{path}?{query}", headers=gis).status_code == 400
    assert client.get(f"{path}?f=json", headers=gis).status_code == 200


def test_a_cursor_is_good_for_its_own_selection_only(client: FlaskClient, gis: Headers) -> None:
    following = link(get(client, gis, limit=2), "next")
    assert following is not None
    cursor = dict(parse_qsl(urlsplit(following["href"]).query))["cursor"]
    assert refused(client, gis, cursor=cursor, township=GUALI)["pointer"] == "/cursor"
    assert len(found(client, gis, cursor=cursor, crs=EPSG + "4326")) == 7


# ---------------------------------------------------------------- again, and for people


def test_what_has_not_changed_is_not_sent_again(client: FlaskClient, gis: Headers, office: Office) -> None:
    first = get(client, gis)
    mark = {"If-None-Match": first.headers["ETag"]}
    again = get(client, gis | mark)
    assert (again.status_code, again.data) == (304, b"")
    assert get(client, gis | mark, limit=3).status_code == 200
    assert get(client, gis | mark, f="html").status_code == 200
    assert get(client, office.sign_in("other", "gis") | mark).status_code == 200
    one = get(client, gis, f"{ITEMS}/{office.seen[0]}")
    assert get(client, gis | {"If-None-Match": one.headers["ETag"]}, f"{ITEMS}/{office.seen[0]}").status_code == 304


def test_what_has_changed_is_sent_and_counted_again(client: FlaskClient, gis: Headers, office: Office) -> None:
    first = get(client, gis, limit=1, version="1")
    incident, head = office.session.get_one(Incident, office.seen[0]), office.session.scalars(select(Head)).one()
    incident.version, head.hash = 2, uuid.uuid4().bytes * 2  # as every change of a record leaves it
    office.session.commit()
    second = get(client, gis | {"If-None-Match": first.headers["ETag"]}, limit=1, version="1")
    assert second.status_code == 200
    assert second.json["numberMatched"] == first.json["numberMatched"] - 1
    incident.version, head.hash = 1, uuid.uuid4().bytes * 2
    office.session.commit()


@pytest.mark.parametrize(
    "path",
    ["/ogc/", "/ogc/conformance", "/ogc/collections"]
    + [f"/ogc/collections/{layer}{below}" for layer in LAYERS for below in ("", "/items", "/schema", "/queryables")],
)
def test_every_page_is_there_for_people_and_runs_nothing(client: FlaskClient, gis: Headers, path: str) -> None:
    for answer in (
        client.get(path, headers=gis | {"Accept": "text/html,application/xhtml+xml,*/*;q=0.8"}),
        client.get(f"{path}?f=html", headers=gis | {"Accept": "application/json"}),
    ):
        assert (answer.status_code, answer.mimetype) == (200, "text/html")
        assert "<script" not in answer.text
        assert " style=" not in answer.text
        assert answer.headers["Content-Security-Policy"].startswith("default-src 'none'; style-src 'self';")
    told = client.get(path, headers=gis)
    if told.mimetype != "application/schema+json":
        other = link(told, "alternate")
        assert other is not None
        assert (other["type"], client.get(other["href"], headers=gis).mimetype) == ("text/html", "text/html")


def test_a_page_shows_text_as_text(client: FlaskClient, gis: Headers, seen: list[uuid.UUID]) -> None:
    for path in (ITEMS, f"{ITEMS}/{seen[7]}"):
        page = get(client, gis, path, f="html").text
        assert "<script" not in page
        assert "&lt;script&gt;" in page


def test_a_page_for_people_leads_on(client: FlaskClient, gis: Headers) -> None:
    page = get(client, gis, f="html", limit=4)
    (following,) = re.findall(r'href="([^"]*cursor=[^"]*)"', page.text)
    second = client.get(following.replace("&amp;", "&"), headers=gis)
    assert second.mimetype == "text/html"
    with client.get("/ogc/style.css") as style:
        assert style.mimetype == "text/css"
