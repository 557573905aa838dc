"""Decides: where a position is in WGS 84, how far off it may be, and which township holds it.

The one place for metres and datums. GCJ-02 and BD-09 are undone by fixed-point steps on the open formulas (the
maintained libraries' single step is 1–2 m off; three steps come to 0.02 mm). CGCS2000 is taken as WGS 84: they differ
by centimetres. Longitude before latitude, degrees; metres for distances.
"""

from __future__ import annotations

import datetime as dt
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import shapely
from shapely.geometry import shape

#: A position without a declared system may be GCJ-02 read as WGS 84: 489–528 m off in Xiaoshan (traps.md).
UNDECLARED_CRS_ERROR_M = 700.0
#: What is assumed of a position that does not say how good it is, m. ESTIMATE: a phone between buildings.
UNDECLARED_ACCURACY_M = 100.0
#: Worse than this is remarked, m. ESTIMATE: a street's width decides which stall was meant.
POOR_ACCURACY_M = 100.0
#: Map services that hand out GCJ-02 in China; WGS 84 claimed for them is worth a remark.
GCJ02_SOURCES = frozenset({"amap", "gaode", "tencent"})

# GCJ-02 is drawn on the Krasovsky 1940 ellipsoid.
_SEMI_MAJOR_M = 6378245.0
_ECCENTRICITY_2 = 0.00669342162296594323
_MEAN_RADIUS_M = 6_371_008.8  # of the Earth (IUGG)
_BD09_PI = math.pi * 3000.0 / 180.0
_INVERSE_STEPS = 3
# Metres per degree at 30.1° N on WGS 84: flat enough for a district of 50 km (0.3 % off at its
# edges: 4 cm on the way from a point 12 m from a limit).
METRES_PER_DEGREE_LON = 96_377.0
METRES_PER_DEGREE_LAT = 110_860.0

LonLat = tuple[float, float]
Note = dict[str, Any]


def in_china(lon: float, lat: float) -> bool:
    """Whether GCJ-02 applies here at all: the rectangle of the open formula; outside it GCJ-02 is WGS 84."""
    return 72.004 <= lon <= 137.8347 and 0.8293 <= lat <= 55.8271


def gcj02_from_wgs84(lon: float, lat: float) -> LonLat:
    """GCJ-02 of a WGS 84 position, by the open formula (eviltransform's test points, exact)."""
    if not in_china(lon, lat):
        return lon, lat
    x, y = lon - 105.0, lat - 35.0
    ripple = 20.0 * math.sin(6.0 * x * math.pi) + 20.0 * math.sin(2.0 * x * math.pi)
    root = math.sqrt(abs(x))
    east = 300.0 + x + 2.0 * y + 0.1 * x * x + 0.1 * x * y + 0.1 * root + ripple * 2.0 / 3.0
    east += (20.0 * math.sin(x * math.pi) + 40.0 * math.sin(x / 3.0 * math.pi)) * 2.0 / 3.0
    east += (150.0 * math.sin(x / 12.0 * math.pi) + 300.0 * math.sin(x / 30.0 * math.pi)) * 2.0 / 3.0
    north = -100.0 + 2.0 * x + 3.0 * y + 0.2 * y * y + 0.1 * x * y + 0.2 * root + ripple * 2.0 / 3.0
    north += (20.0 * math.sin(y * math.pi) + 40.0 * math.sin(y / 3.0 * math.pi)) * 2.0 / 3.0
    north += (160.0 * math.sin(y / 12.0 * math.pi) + 320.0 * math.sin(y * math.pi / 30.0)) * 2.0 / 3.0
    sine = math.sin(math.radians(lat))
    bulge = 1.0 - _ECCENTRICITY_2 * sine * sine
    meridian = math.radians(_SEMI_MAJOR_M * (1.0 - _ECCENTRICITY_2) / (bulge * math.sqrt(bulge)))
    parallel = math.radians(_SEMI_MAJOR_M / math.sqrt(bulge) * math.cos(math.radians(lat)))
    return lon + east / parallel, lat + north / meridian


def bd09_from_gcj02(lon: float, lat: float) -> LonLat:
    """BD-09 of a GCJ-02 position, by the open formula."""
    radius = math.hypot(lon, lat) + 0.00002 * math.sin(lat * _BD09_PI)
    angle = math.atan2(lat, lon) + 0.000003 * math.cos(lon * _BD09_PI)
    return radius * math.cos(angle) + 0.0065, radius * math.sin(angle) + 0.006


def wgs84_from_gcj02(lon: float, lat: float) -> LonLat:
    """The WGS 84 position whose GCJ-02 this is."""
    return _undo(gcj02_from_wgs84, lon, lat)


def wgs84_from_bd09(lon: float, lat: float) -> LonLat:
    """The WGS 84 position whose BD-09 this is."""
    return wgs84_from_gcj02(*_undo(bd09_from_gcj02, lon, lat))


def _undo(forward: Callable[[float, float], LonLat], lon: float, lat: float) -> LonLat:
    guess_lon, guess_lat = lon, lat
    for _ in range(_INVERSE_STEPS):
        there_lon, there_lat = forward(guess_lon, guess_lat)
        guess_lon, guess_lat = guess_lon + lon - there_lon, guess_lat + lat - there_lat
    return guess_lon, guess_lat


def _same(lon: float, lat: float) -> LonLat:
    return lon, lat


def distance_m(lon: float, lat: float, other_lon: float, other_lat: float) -> float:
    """Metres between two WGS 84 positions anywhere, on a sphere: up to 0.6 % off."""
    north, other_north = math.radians(lat), math.radians(other_lat)
    across = math.sin((other_north - north) / 2) ** 2
    across += math.cos(north) * math.cos(other_north) * math.sin(math.radians(other_lon - lon) / 2) ** 2
    return 2 * _MEAN_RADIUS_M * math.asin(min(1.0, math.sqrt(across)))


def box_of(points: Iterable[Sequence[float]]) -> tuple[float, float, float, float]:
    """(west, south, east, north) of points that begin with longitude and latitude."""
    lons, lats = zip(*((point[0], point[1]) for point in points), strict=True)
    return min(lons), min(lats), max(lons), max(lats)


#: What a declared system means, as a way to WGS 84.
TO_WGS84: Mapping[str, Callable[[float, float], LonLat]] = {
    "wgs84": _same,
    "cgcs2000": _same,
    "gcj02": wgs84_from_gcj02,
    "bd09": wgs84_from_bd09,
}


@dataclass(frozen=True, slots=True)
class Position:
    """A WGS 84 position and how far off it may be, in metres."""

    lon: float
    lat: float
    error_m: float


def position(fix: Mapping[str, Any] | None) -> tuple[Position | None, list[Note]]:
    """The WGS 84 position of a fix as sent (see PROTOCOL.md), and what is to be remarked on it.

    0/0 is what broken positioning reports: it counts as no position.
    """
    if fix is None or (fix["lon"] == 0 and fix["lat"] == 0):
        return None, [{"code": "no-fix"}]
    crs, accuracy_m = fix.get("crs"), fix.get("accuracy_m")
    error_m = UNDECLARED_ACCURACY_M if accuracy_m is None else float(accuracy_m)
    notes = _fix_notes(fix, crs, accuracy_m)
    if crs is None:
        error_m += UNDECLARED_CRS_ERROR_M
    lon, lat = TO_WGS84[crs or "wgs84"](float(fix["lon"]), float(fix["lat"]))
    return Position(lon, lat, error_m), notes


def crs_notes(crs: str | None) -> list[Note]:
    """A remark on positions whose system was not declared, with how far they may be off for it."""
    return [] if crs else [{"code": "crs-undeclared", "error_m": UNDECLARED_CRS_ERROR_M}]


def _fix_notes(fix: Mapping[str, Any], crs: str | None, accuracy_m: float | None) -> list[Note]:
    notes = crs_notes(crs)
    if crs == "wgs84" and str(fix.get("source")).lower() in GCJ02_SOURCES:
        notes.append({"code": "crs-doubtful", "crs": crs, "source": fix["source"]})
    if accuracy_m is not None and accuracy_m > POOR_ACCURACY_M:
        notes.append({"code": "poor-accuracy", "accuracy_m": accuracy_m})
    if fix.get("mock"):
        notes.append({"code": "mock-location"})
    return notes


@dataclass(frozen=True, slots=True)
class Area:
    """The area of a township in one edition: a GeoJSON geometry in WGS 84, in force from one day until another."""

    code: str
    edition: str
    geometry: Mapping[str, Any]
    from_on: dt.date | None
    until_on: dt.date | None


@dataclass(frozen=True, slots=True)
class Located:
    """Which township holds a position: `inside`, `uncertain` (a limit lies within its error) or `outside` all.

    `code` is the township that holds the point itself, also when uncertain; `candidates` all it may be.
    """

    code: str | None
    how: str
    candidates: tuple[str, ...]
    edition: str | None


class Areas:
    """The township areas, prepared for many questions. Built once per version of the reference data."""

    def __init__(self, areas: Iterable[Area]) -> None:
        self._prepared = [_Prepared(area) for area in areas]

    def locate(self, where: Position, day: dt.date) -> Located:
        """The township that holds the position, by the areas in force on that day."""
        x, y = _metres(where.lon, where.lat)
        point = shapely.Point(x, y)
        holder: _Prepared | None = None
        near: list[_Prepared] = []
        for area in self._prepared:
            if not area.may_touch(x, y, where.error_m, day):
                continue
            inside = holder is None and area.holds(point)
            if inside:
                holder = area
            if inside or area.within(point, where.error_m):
                near.append(area)
        candidates = tuple(sorted({area.code for area in near}))
        edition = holder.edition if holder else near[0].edition if near else None
        if holder and len(candidates) == 1 and not holder.limit_within(point, where.error_m):
            return Located(holder.code, "inside", candidates, edition)
        return Located(holder.code if holder else None, "uncertain" if candidates else "outside", candidates, edition)


class _Prepared:
    """One area in flat metres, with its bounding box, so that most questions never reach the geometry."""

    def __init__(self, area: Area) -> None:
        self.code, self.edition = area.code, area.edition
        self._from_on, self._until_on = area.from_on, area.until_on
        self._polygon = shapely.transform(shape(area.geometry), _flatten)
        self._limit = self._polygon.boundary
        shapely.prepare([self._polygon, self._limit])
        self._west, self._south, self._east, self._north = self._polygon.bounds

    def may_touch(self, x: float, y: float, margin_m: float, day: dt.date) -> bool:
        return (
            self._west - margin_m <= x <= self._east + margin_m
            and self._south - margin_m <= y <= self._north + margin_m
            and (self._from_on is None or self._from_on <= day)
            and (self._until_on is None or day <= self._until_on)
        )

    def holds(self, point: shapely.Point) -> bool:
        return bool(shapely.contains(self._polygon, point))

    def within(self, point: shapely.Point, distance_m: float) -> bool:
        return bool(shapely.dwithin(self._polygon, point, distance_m))

    def limit_within(self, point: shapely.Point, distance_m: float) -> bool:
        return bool(shapely.dwithin(self._limit, point, distance_m))


def _metres(lon: float, lat: float) -> LonLat:
    return lon * METRES_PER_DEGREE_LON, lat * METRES_PER_DEGREE_LAT


def _flatten(coordinates: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    return coordinates[:, :2] * (METRES_PER_DEGREE_LON, METRES_PER_DEGREE_LAT)


def location_notes(how: str, code: str | None, candidates: Sequence[str], chosen: str | None) -> list[Note]:
    """Remarks on a township chosen by a person and one found by position (see `Located`) that do not agree."""
    if how == "outside":
        return [{"code": "outside-district"}]
    notes: list[Note] = []
    if how == "uncertain":
        notes.append({"code": "township-uncertain", "candidates": list(candidates)})
    if chosen is not None and chosen not in candidates:
        notes.append({"code": "township-mismatch", "chosen": chosen, "located": code})
    return notes
