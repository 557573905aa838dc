"""Decides: how GeoParquet is told a coordinate system, which is PROJJSON; figures of the EPSG register.

Positions come x first there whatever the axes say (GeoParquet 1.1); the axes are the register's.
"""

from __future__ import annotations

from typing import Any

Json = dict[str, Any]


def of(epsg: int | None) -> Json | None:
    """The PROJJSON of EPSG:4490, 4549 or 3857; `None`, which says that nobody knows, for what has no number."""
    return None if epsg is None else {4490: _CGCS2000, 4549: _ZONE_120, 3857: _WEB_MERCATOR}[epsg]


def _id(code: int) -> Json:
    return {"authority": "EPSG", "code": code}


def _axes(*axes: tuple[str, str, str], kind: str, unit: str) -> Json:
    told = [{"name": name, "abbreviation": short, "direction": to, "unit": unit} for name, short, to in axes]
    return {"subtype": kind, "axis": told}


def _geographic(name: str, datum: str, ellipsoid: str, flattening: float, code: int) -> Json:
    shape = {"name": ellipsoid, "semi_major_axis": 6_378_137, "inverse_flattening": flattening}
    latitude, longitude = ("Geodetic latitude", "Lat", "north"), ("Geodetic longitude", "Lon", "east")
    return {
        "type": "GeographicCRS",
        "name": name,
        "datum": {"type": "GeodeticReferenceFrame", "name": datum, "ellipsoid": shape},
        "coordinate_system": _axes(latitude, longitude, kind="ellipsoidal", unit="degree"),
        "id": _id(code),
    }


def _projected(name: str, base: Json, conversion: Json, axes: Json, code: int) -> Json:
    head = {"$schema": "https://proj.org/schemas/v0.7/projjson.schema.json", "type": "ProjectedCRS", "name": name}
    return head | {"base_crs": base, "conversion": conversion, "coordinate_system": axes, "id": _id(code)}


def _parameter(name: str, value: float, unit: str, code: int) -> Json:
    return {"name": name, "value": value, "unit": unit, "id": _id(code)}


_CGCS2000 = _geographic("China Geodetic Coordinate System 2000", "China 2000", "CGCS2000", 298.257222101, 4490)
_WGS84 = _geographic("WGS 84", "World Geodetic System 1984", "WGS 84", 298.257223563, 4326)
_ZONE_120 = _projected(
    "CGCS2000 / 3-degree Gauss-Kruger CM 120E",
    _CGCS2000,
    {
        "name": "3-degree Gauss-Kruger CM 120E",
        "method": {"name": "Transverse Mercator", "id": _id(9807)},
        "parameters": [
            _parameter("Latitude of natural origin", 0, "degree", 8801),
            _parameter("Longitude of natural origin", 120, "degree", 8802),
            _parameter("Scale factor at natural origin", 1, "unity", 8805),
            _parameter("False easting", 500_000, "metre", 8806),
            _parameter("False northing", 0, "metre", 8807),
        ],
    },
    _axes(("Northing", "X", "north"), ("Easting", "Y", "east"), kind="Cartesian", unit="metre"),
    4549,
)
_WEB_MERCATOR = _projected(
    "WGS 84 / Pseudo-Mercator",
    _WGS84,
    {
        "name": "Popular Visualisation Pseudo-Mercator",
        "method": {"name": "Popular Visualisation Pseudo Mercator", "id": _id(1024)},
        "parameters": [
            _parameter("Latitude of natural origin", 0, "degree", 8801),
            _parameter("Longitude of natural origin", 0, "degree", 8802),
            _parameter("False easting", 0, "metre", 8806),
            _parameter("False northing", 0, "metre", 8807),
        ],
    },
    _axes(("Easting", "X", "east"), ("Northing", "Y", "north"), kind="Cartesian", unit="metre"),
    3857,
)
