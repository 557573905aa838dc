"""Decides: what a WGS 84 position is in the coordinate systems of maps, and back.

Longitude and latitude come and go as arrays of degrees, projected coordinates as arrays of metres; what a projection
can't show is NaN. `north_first` says which axis the EPSG register names first, and so which comes first on the wire.
CGCS2000 is taken as WGS 84, as everywhere (`places`): they differ by centimetres. The formulas are tested against PROJ.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import shapely

Pair = tuple[Any, Any]

#: Semi-major axis of WGS 84 and of CGCS2000, m.
_SEMI_MAJOR_M = 6_378_137.0
#: CGCS2000 (GB 22021-2008).
_FLATTENING = 1 / 298.257222101
_ECCENTRICITY = (_FLATTENING * (2 - _FLATTENING)) ** 0.5
#: EPSG:4549: the 3° zone around 120° E, false easting 500 km.
_CENTRAL_DEG, _FALSE_EASTING_M = 120.0, 500_000.0
#: Further from the zone's middle its series mean nothing, °; Web Mercator's square ends at this latitude, °.
_FURTHEST_DEG, _MERCATOR_ENDS_DEG = 40.0, 85.06
#: A line that is straight in one system is bent in another: pieces no longer than this stay within 1 cm, m. No outline
#: is cut into many more pieces than that.
_PIECE_M, _MOST_PIECES = 500.0, 1_000

_N = _FLATTENING / (2 - _FLATTENING)
_RECTIFYING_M = _SEMI_MAJOR_M / (1 + _N) * (1 + _N**2 / 4 + _N**4 / 64 + _N**6 / 256)
# Krüger's series to the fourth power of n, forth and back (Karney 2011, eqs. 35 and 36): micrometres within the zone.
_FORTH = (
    _N / 2 - 2 * _N**2 / 3 + 5 * _N**3 / 16 + 41 * _N**4 / 180,
    13 * _N**2 / 48 - 3 * _N**3 / 5 + 557 * _N**4 / 1440,
    61 * _N**3 / 240 - 103 * _N**4 / 140,
    49561 * _N**4 / 161280,
)
_BACK = (
    _N / 2 - 2 * _N**2 / 3 + 37 * _N**3 / 96 - _N**4 / 360,
    _N**2 / 48 + _N**3 / 15 - 437 * _N**4 / 1440,
    17 * _N**3 / 480 - 37 * _N**4 / 840,
    4397 * _N**4 / 161280,
)
_NEWTON_STEPS = 4


def _same(x: Any, y: Any) -> Pair:
    return x, y


def _mercator(lon: Any, lat: Any) -> Pair:
    shown = np.where(np.abs(lat) <= _MERCATOR_ENDS_DEG, lat, np.nan)
    return _SEMI_MAJOR_M * np.radians(lon), _SEMI_MAJOR_M * np.arcsinh(np.tan(np.radians(shown)))


def _from_mercator(x: Any, y: Any) -> Pair:
    return np.degrees(x / _SEMI_MAJOR_M), np.degrees(np.arctan(np.sinh(y / _SEMI_MAJOR_M)))


def _gauss_kruger(lon: Any, lat: Any) -> Pair:
    away_deg = lon - _CENTRAL_DEG
    away = np.radians(np.where(np.abs(away_deg) <= _FURTHEST_DEG, away_deg, np.nan))
    sine = np.sin(np.radians(lat))
    conformal = np.sinh(np.arctanh(sine) - _ECCENTRICITY * np.arctanh(_ECCENTRICITY * sine))
    sphere = np.arctan2(conformal, np.cos(away)) + 1j * np.arcsinh(np.sin(away) / np.hypot(conformal, np.cos(away)))
    flat = sphere + sum(term * np.sin(2 * (k + 1) * sphere) for k, term in enumerate(_FORTH))
    return _FALSE_EASTING_M + _RECTIFYING_M * flat.imag, _RECTIFYING_M * flat.real


def _from_gauss_kruger(x: Any, y: Any) -> Pair:
    flat = (np.asarray(y) + 1j * (np.asarray(x) - _FALSE_EASTING_M)) / _RECTIFYING_M
    sphere = flat - sum(term * np.sin(2 * (k + 1) * flat) for k, term in enumerate(_BACK))
    away = np.arctan2(np.sinh(sphere.imag), np.cos(sphere.real))
    conformal = np.sin(sphere.real) / np.hypot(np.sinh(sphere.imag), np.cos(sphere.real))
    return _CENTRAL_DEG + np.degrees(away), np.degrees(np.arctan(_tangent(conformal)))


def _tangent(conformal: Any) -> Any:
    """The tangent of the latitude from that of the conformal one, by Newton's method (Karney 2011, eqs. 19 to 21)."""
    tangent = conformal
    for _ in range(_NEWTON_STEPS):
        root = np.sqrt(1 + tangent**2)
        skew = np.sinh(_ECCENTRICITY * np.arctanh(_ECCENTRICITY * tangent / root))
        guess = tangent * np.sqrt(1 + skew**2) - skew * root
        bulge = 1 - _ECCENTRICITY**2
        tangent = tangent + (conformal - guess) / np.sqrt(1 + guess**2) * (1 + bulge * tangent**2) / (bulge * root)
    return tangent


@dataclass(frozen=True)
class Crs:
    """A coordinate system by its address; `holds` is (least x, least y, most x, most y) of what makes sense in it."""

    uri: str
    title: str
    north_first: bool
    holds: tuple[float, float, float, float]
    project: Callable[[Any, Any], Pair] = _same
    unproject: Callable[[Any, Any], Pair] = _same

    @property
    def is_geographic(self) -> bool:
        """Whether its coordinates are degrees."""
        return self.project is _same

    @property
    def decimals(self) -> int | None:
        """To how many decimals coordinates are told: tenths of a millimetre; degrees as they are kept."""
        return None if self.is_geographic else 4


_EPSG = "http://www.opengis.net/def/crs/EPSG/0/{}"
_WORLD = (-180.0, -90.0, 180.0, 90.0)
_SQUARE_M = 20_037_508.342789244
CRS84 = Crs("http://www.opengis.net/def/crs/OGC/1.3/CRS84", "WGS 84, longitude first", False, _WORLD)
#: All that is spoken here, by address; the one that is meant if nothing is said first.
SPOKEN: Mapping[str, Crs] = {
    crs.uri: crs
    for crs in (
        CRS84,
        Crs(_EPSG.format(4326), "WGS 84, latitude first", True, _WORLD),
        Crs(_EPSG.format(4490), "CGCS2000, latitude first", True, _WORLD),
        Crs(
            _EPSG.format(3857),
            "Web Mercator",
            False,
            (-_SQUARE_M, -_SQUARE_M, _SQUARE_M, _SQUARE_M),
            _mercator,
            _from_mercator,
        ),
        Crs(
            _EPSG.format(4549),
            "CGCS2000, 3-degree zone around 120° E, northing first",
            True,
            (-3_500_000.0, -9_900_000.0, 4_500_000.0, 9_900_000.0),
            _gauss_kruger,
            _from_gauss_kruger,
        ),
    )
}


def to_wire(crs: Crs, lon: Any, lat: Any) -> Pair:
    """The first and the second coordinate of these positions on the wire, in the order of the axes."""
    east, north = crs.project(np.asarray(lon, float), np.asarray(lat, float))
    if crs.decimals is not None:
        east, north = np.round(east, crs.decimals), np.round(north, crs.decimals)
    return (north, east) if crs.north_first else (east, north)


def from_wire(crs: Crs, shape: Any) -> Any:
    """A valid shape (shapely) given in this system, in WGS 84 with longitude first."""
    flipped = shapely.transform(shape, lambda at: at[:, ::-1]) if crs.north_first else shape
    if crs.is_geographic:
        return flipped
    within = shapely.intersection(flipped, shapely.box(*crs.holds))
    pieces = shapely.segmentize(within, max(_PIECE_M, within.length / _MOST_PIECES))
    return shapely.transform(pieces, lambda at: np.column_stack(crs.unproject(at[:, 0], at[:, 1])))


def box_from_wire(crs: Crs, first: float, second: float, third: float, fourth: float) -> Any:
    """A box given by its lower and its upper corner in this system, as a shape in WGS 84 with longitude first.

    Degrees may pass the antimeridian: then the west is greater than the east, and the shape has two parts. What lies
    beyond the world is cut off. Raises ValueError if the corners are not a lower and an upper one.
    """
    if not np.isfinite([first, second, third, fourth]).all():
        raise ValueError("a box is of numbers")
    west, south, east, north = (second, first, fourth, third) if crs.north_first else (first, second, third, fourth)
    if south > north or (west > east and not crs.is_geographic):
        raise ValueError("the lower corner comes first")
    if west > east:
        halves = [(west, south, 180.0, north), (-180.0, south, east, north)]
        return shapely.multipolygons([_clipped(crs, half) for half in halves])
    clipped = _clipped(crs, (west, south, east, north))
    if crs.is_geographic:
        return clipped
    if crs.project is _mercator:  # what is upright there is upright here
        return shapely.transform(clipped, lambda at: np.column_stack(crs.unproject(at[:, 0], at[:, 1])))
    return from_wire(crs, shapely.transform(clipped, lambda at: at[:, ::-1]))


def _clipped(crs: Crs, box: tuple[float, float, float, float]) -> Any:
    """The part of a box that makes sense; one beyond everything is the edge that it lies behind."""
    least_x, least_y, most_x, most_y = crs.holds
    west, east = np.clip([box[0], box[2]], least_x, most_x)
    south, north = np.clip([box[1], box[3]], least_y, most_y)
    return shapely.box(west, south, east, north)
