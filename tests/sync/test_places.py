"""Where a position is: datums against published points, townships against limits, metres against the geodesic."""

from __future__ import annotations

import datetime as dt
import json
from pathlib import Path
from typing import Any

import pytest
from geopy.distance import geodesic
from hypothesis import given, settings
from hypothesis import strategies as st

from sync.places import (
    TO_WGS84,
    UNDECLARED_CRS_ERROR_M,
    Area,
    Areas,
    Position,
    bd09_from_gcj02,
    gcj02_from_wgs84,
    location_notes,
    position,
    wgs84_from_bd09,
    wgs84_from_gcj02,
)
from tests.builders import BOXES, GUALI, YINONG, box_area

POINTS = json.loads((Path(__file__).parent / "coordinates.json").read_text())
XIAOSHAN = POINTS["xiaoshan"]
DAY = dt.date(2026, 11, 23)
#: West, south, east and north of the district, degrees.
DISTRICT = (120.067, 29.847, 120.633, 30.312)


def metres(one: Any, other: Any) -> float:
    """The distance of two (lon, lat) on the ellipsoid, by another library."""
    return float(geodesic((one[1], one[0]), (other[1], other[0])).m)


# ---------------------------------------------------------------- datums


@pytest.mark.parametrize("point", POINTS["published"], ids=lambda point: point["source"])
def test_published_points_come_out_to_their_last_digit(point: dict[str, Any]) -> None:
    tolerance_m = 1e-3 if point["decimals"] > 5 else 1.0
    assert metres(gcj02_from_wgs84(*point["wgs84"]), point["gcj02"]) < tolerance_m
    assert metres(wgs84_from_gcj02(*point["gcj02"]), point["wgs84"]) < tolerance_m


@pytest.mark.parametrize("point", POINTS["gcoord"] + XIAOSHAN, ids=lambda point: point["name"])
def test_points_of_other_libraries_agree_within_a_metre(point: dict[str, Any]) -> None:
    wgs84, gcj02, bd09 = point["wgs84"], point["gcj02"], point["bd09"]
    assert metres(gcj02_from_wgs84(*wgs84), gcj02) < 1
    assert metres(bd09_from_gcj02(*gcj02), bd09) < 1
    assert metres(wgs84_from_gcj02(*gcj02), wgs84) < 1
    assert metres(wgs84_from_bd09(*bd09), wgs84) < 1


@pytest.mark.parametrize("point", XIAOSHAN, ids=lambda point: point["name"])
def test_there_and_back_is_less_than_a_millimetre_and_the_way_is_half_a_kilometre(point: dict[str, Any]) -> None:
    there = gcj02_from_wgs84(*point["wgs84"])
    assert metres(wgs84_from_gcj02(*there), point["wgs84"]) < 1e-3
    assert metres(wgs84_from_bd09(*bd09_from_gcj02(*there)), point["wgs84"]) < 1e-3
    assert 480 < metres(there, point["wgs84"]) < 540


@pytest.mark.parametrize("point", XIAOSHAN, ids=lambda point: point["name"])
def test_converting_twice_would_show(point: dict[str, Any]) -> None:
    once = wgs84_from_gcj02(*point["gcj02"])
    assert 480 < metres(wgs84_from_gcj02(*once), once) < 540


@settings(max_examples=200, deadline=None)
@given(st.floats(DISTRICT[0], DISTRICT[2]), st.floats(DISTRICT[1], DISTRICT[3]))
def test_there_and_back_holds_everywhere_in_the_district(lon: float, lat: float) -> None:
    there = gcj02_from_wgs84(lon, lat)
    assert metres(wgs84_from_gcj02(*there), (lon, lat)) < 1e-3
    assert metres(wgs84_from_bd09(*bd09_from_gcj02(*there)), (lon, lat)) < 1e-3


@pytest.mark.parametrize("point", POINTS["outside_china"])
def test_gcj02_is_wgs84_outside_china(point: list[float]) -> None:
    assert list(gcj02_from_wgs84(*point)) == list(wgs84_from_gcj02(*point)) == point


@settings(deadline=None)
@given(st.sampled_from(sorted(TO_WGS84)), st.floats(-180, 180), st.floats(-90, 90))
def test_any_position_on_earth_becomes_one(crs: str, lon: float, lat: float) -> None:
    found, _ = position({"lon": lon, "lat": lat, "crs": crs})
    assert (lon, lat) == (0, 0) if found is None else abs(found.lon) < 181 and abs(found.lat) < 91


# ---------------------------------------------------------------- fixes

GCJ02 = {"lon": XIAOSHAN[0]["gcj02"][0], "lat": XIAOSHAN[0]["gcj02"][1]}
FIXES: list[tuple[Any, float | None, set[str]]] = [
    (None, None, {"no-fix"}),
    ({"lon": 0, "lat": 0, "crs": "wgs84"}, None, {"no-fix"}),
    ({"lon": 0.0, "lat": -0.0}, None, {"no-fix"}),
    ({"lon": 120.4, "lat": 30.1, "crs": "wgs84", "accuracy_m": 12}, 12, set()),
    ({"lon": 120.4, "lat": 30.1, "crs": "cgcs2000", "accuracy_m": 0}, 0, set()),
    ({"lon": 120.4, "lat": 30.1, "crs": "wgs84"}, 100, set()),
    ({"lon": 120.4, "lat": 30.1, "crs": "wgs84", "accuracy_m": None}, 100, set()),
    ({"lon": 120.4, "lat": 30.1, "accuracy_m": 12}, 12 + UNDECLARED_CRS_ERROR_M, {"crs-undeclared"}),
    ({"lon": 120.4, "lat": 30.1}, 100 + UNDECLARED_CRS_ERROR_M, {"crs-undeclared"}),
    ({"lon": 120.4, "lat": 30.1, "crs": "wgs84", "accuracy_m": 100}, 100, set()),
    ({"lon": 120.4, "lat": 30.1, "crs": "wgs84", "accuracy_m": 100.1}, 100.1, {"poor-accuracy"}),
    ({"lon": 120.4, "lat": 30.1, "crs": "wgs84", "source": "amap"}, 100, {"crs-doubtful"}),
    ({"lon": 120.4, "lat": 30.1, "crs": "gcj02", "source": "amap"}, 100, set()),
    ({"lon": 120.4, "lat": 30.1, "crs": "wgs84", "source": "gps"}, 100, set()),
    ({"lon": 120.4, "lat": 30.1, "crs": "wgs84", "mock": True}, 100, {"mock-location"}),
    ({"lon": 120.4, "lat": 30.1, "crs": "wgs84", "mock": False}, 100, set()),
]


@pytest.mark.parametrize(("fix", "error_m", "codes"), FIXES)
def test_a_fix_gives_a_position_its_error_and_remarks(fix: Any, error_m: float | None, codes: set[str]) -> None:
    where, notes = position(fix)
    assert {note["code"] for note in notes} == codes
    assert (where and where.error_m) == error_m


def test_a_declared_system_is_undone() -> None:
    for crs, sent in (("gcj02", XIAOSHAN[0]["gcj02"]), ("bd09", XIAOSHAN[0]["bd09"])):
        where, _ = position({"lon": sent[0], "lat": sent[1], "crs": crs})
        assert where is not None
        assert metres((where.lon, where.lat), XIAOSHAN[0]["wgs84"]) < 1


@pytest.mark.parametrize("crs", [*TO_WGS84, None])
def test_whole_degrees_are_the_numbers_a_database_gives_back(crs: str | None) -> None:
    """What is sworn to is written as JSON, where 120 and 120.0 differ."""
    where, _ = position({"lon": 12, "lat": 30, "crs": crs, "accuracy_m": 5})
    assert where is not None
    assert [type(number) for number in (where.lon, where.lat, where.error_m)] == [float] * 3


# ---------------------------------------------------------------- townships

BORDER = BOXES[GUALI][2]
ONE_METRE_DEG = 1 / 96_377


def boxes(**parts: Any) -> list[Area]:
    usual = {"edition": "demo", "from_on": None, "until_on": None} | parts
    return [Area(code=code, geometry=box_area(*box), **usual) for code, box in BOXES.items()]


LOCATED: list[tuple[tuple[float, float, float], str | None, str, tuple[str, ...]]] = [
    ((120.46, 30.18, 12), GUALI, "inside", (GUALI,)),
    ((120.57, 30.18, 12), YINONG, "inside", (YINONG,)),
    ((BORDER - 20 * ONE_METRE_DEG, 30.18, 12), GUALI, "inside", (GUALI,)),
    ((BORDER - 10 * ONE_METRE_DEG, 30.18, 12), GUALI, "uncertain", (GUALI, YINONG)),
    ((BORDER + 10 * ONE_METRE_DEG, 30.18, 12), YINONG, "uncertain", (GUALI, YINONG)),
    ((BORDER + 20 * ONE_METRE_DEG, 30.18, 12), YINONG, "inside", (YINONG,)),
    # At the district's own limit there is one candidate, and still nobody can be sure.
    ((120.42 + 10 * ONE_METRE_DEG, 30.18, 12), GUALI, "uncertain", (GUALI,)),
    ((120.42 - 10 * ONE_METRE_DEG, 30.18, 12), None, "uncertain", (GUALI,)),
    ((120.42 - 20 * ONE_METRE_DEG, 30.18, 12), None, "outside", ()),
    ((119.0, 29.0, 12), None, "outside", ()),
    ((120.46, 30.18, 12_000), GUALI, "uncertain", (GUALI, YINONG)),
    ((120.46, 30.18, 0), GUALI, "inside", (GUALI,)),
]


@pytest.mark.parametrize(("where", "code", "how", "candidates"), LOCATED)
def test_a_position_lies_in_a_township_or_near_or_out(
    where: tuple[float, float, float], code: str | None, how: str, candidates: tuple[str, ...]
) -> None:
    found = Areas(boxes()).locate(Position(*where), DAY)
    assert (found.code, found.how, found.candidates) == (code, how, candidates)
    assert found.edition == ("demo" if candidates else None)


def test_where_two_areas_meet_someone_is_always_near() -> None:
    found = Areas(boxes()).locate(Position(BORDER, 30.18, 0), DAY)
    assert (found.how, found.candidates) == ("uncertain", (GUALI, YINONG))


EDITIONS: list[tuple[dt.date, str | None, str | None]] = [
    (dt.date(2021, 4, 8), "old", YINONG),
    (dt.date(2021, 4, 9), "new", GUALI),
    (dt.date(2026, 11, 23), "new", GUALI),
    (dt.date(2026, 11, 24), None, None),
    (dt.date(2016, 12, 31), None, None),
    (dt.date(2017, 1, 1), "old", YINONG),
]


@pytest.mark.parametrize(("day", "edition", "code"), EDITIONS)
def test_the_areas_of_that_day_are_asked(day: dt.date, edition: str | None, code: str | None) -> None:
    old = Area(YINONG, "old", box_area(*BOXES[GUALI]), dt.date(2017, 1, 1), dt.date(2021, 4, 8))
    new = Area(GUALI, "new", box_area(*BOXES[GUALI]), dt.date(2021, 4, 9), DAY)
    found = Areas([old, new]).locate(Position(120.46, 30.18, 12), day)
    assert (found.edition, found.code) == (edition, code)


def test_a_hole_in_an_area_is_not_in_it() -> None:
    geometry = box_area(120.0, 30.0, 120.2, 30.2)
    inner: Any = box_area(120.08, 30.08, 120.12, 30.12)
    geometry["coordinates"] += inner["coordinates"]  # type: ignore[operator]
    areas = Areas([Area(GUALI, "demo", geometry, None, None)])
    assert areas.locate(Position(120.1, 30.1, 12), DAY).how == "outside"
    assert areas.locate(Position(120.05, 30.05, 12), DAY).how == "inside"
    assert areas.locate(Position(120.08 - 5 * ONE_METRE_DEG, 30.1, 12), DAY).how == "uncertain"


def test_an_area_may_have_several_parts() -> None:
    parts: Any = [box_area(120.0, 30.0, 120.1, 30.1), box_area(120.2, 30.0, 120.3, 30.1)]
    geometry = {"type": "MultiPolygon", "coordinates": [part["coordinates"] for part in parts]}
    areas = Areas([Area(GUALI, "demo", geometry, None, None)])
    for lon, how in ((120.05, "inside"), (120.15, "outside"), (120.25, "inside")):
        assert areas.locate(Position(lon, 30.05, 12), DAY).how == how


def test_without_areas_everything_is_outside() -> None:
    assert Areas([]).locate(Position(120.46, 30.18, 12), DAY).how == "outside"


NOTES: list[tuple[tuple[Any, ...], set[str]]] = [
    (("inside", GUALI, [GUALI], GUALI), set()),
    (("inside", GUALI, [GUALI], None), set()),
    (("inside", GUALI, [GUALI], YINONG), {"township-mismatch"}),
    (("uncertain", GUALI, [GUALI, YINONG], YINONG), {"township-uncertain"}),
    (("uncertain", GUALI, [GUALI, YINONG], "330109001"), {"township-uncertain", "township-mismatch"}),
    (("uncertain", None, [GUALI], GUALI), {"township-uncertain"}),
    (("outside", None, [], GUALI), {"outside-district"}),
    (("outside", None, [], None), {"outside-district"}),
]


@pytest.mark.parametrize(("located", "codes"), NOTES)
def test_a_choice_and_a_location_that_disagree_are_remarked(located: tuple[Any, ...], codes: set[str]) -> None:
    assert {note["code"] for note in location_notes(*located)} == codes


# ---------------------------------------------------------------- metres


NEAR, FAR = "uncertain", "outside"


@pytest.mark.parametrize("distance_m", [20.0, 500.0, 2_000.0])
def test_the_flat_metres_of_the_district_are_right_to_three_in_a_thousand(distance_m: float) -> None:
    """A point that far from a limit is near it with 0.3 % more of error, and not with 0.3 % less."""
    west, south, east, north = DISTRICT
    for lat in (south, (south + north) / 2, north):
        area = Areas([Area(GUALI, "demo", box_area(119, 29, 120.4, 31), None, None)])
        lon = 120.4 + distance_m / metres((120.4, lat), (120.41, lat)) / 100
        assert [area.locate(Position(lon, lat, distance_m * by), DAY).how for by in (1.003, 0.997)] == [NEAR, FAR]
    for lon in (west, (west + east) / 2, east):
        area = Areas([Area(GUALI, "demo", box_area(119, 29, 121, 30.1), None, None)])
        lat = 30.1 + distance_m / metres((lon, 30.1), (lon, 30.11)) / 100
        assert [area.locate(Position(lon, lat, distance_m * by), DAY).how for by in (1.003, 0.997)] == [NEAR, FAR]
