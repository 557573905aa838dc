"""Coordinate systems of maps, beside PROJ."""

from __future__ import annotations

import math

import numpy as np
import pyproj
import pytest
import shapely
from hypothesis import given
from hypothesis import strategies as st

from sync.projections import CRS84, SPOKEN, box_from_wire, from_wire, to_wire

EPSG = "http://www.opengis.net/def/crs/EPSG/0/"
#: The system from which PROJ goes to each without a shift.
FROM = {4326: "EPSG:4326", 4490: "EPSG:4490", 3857: "EPSG:4326", 4549: "EPSG:4490"}
RNG = np.random.default_rng(20261123)


@pytest.mark.parametrize("code", FROM)
@pytest.mark.parametrize(("span_deg", "lats"), [(0.7, (29.8, 30.6)), (1.5, (0.0, 60.0)), (10.0, (-80.0, 80.0))])
def test_positions_are_where_proj_puts_them(code: int, span_deg: float, lats: tuple[float, float]) -> None:
    lon, lat = 120.0 + RNG.uniform(-span_deg, span_deg, 2_000), RNG.uniform(*lats, 2_000)
    expected = np.array(pyproj.Transformer.from_crs(FROM[code], code, always_xy=False).transform(lat, lon))
    found = np.array(to_wire(SPOKEN[f"{EPSG}{code}"], lon, lat))
    assert np.abs(found - expected).max() <= (1e-12 if code in (4326, 4490) else 0.00006)  # told to a tenth of a mm


@given(st.floats(119.0, 121.0), st.floats(-80, 80))
def test_there_and_back_again(lon: float, lat: float) -> None:
    for crs in SPOKEN.values():
        back = from_wire(crs, shapely.Point(*(float(each) for each in to_wire(crs, lon, lat))))
        assert math.dist((back.x, back.y), (lon, lat)) < 1e-7 / math.cos(math.radians(lat))


def test_what_can_not_be_shown_is_no_number() -> None:
    for code in (3857, 4549):
        assert np.isnan(to_wire(SPOKEN[f"{EPSG}{code}"], [-60.0, math.nan], [89.9, 30.0])).any(axis=0).all()


@pytest.mark.parametrize(
    ("box", "holds", "lacks"),
    [
        ((177, 65, -177, 70), (179.9, 66), (0, 66)),
        ((-200, -100, 200, 100), (0, 90), None),
        ((10, 85, 20, 95), (15, 89), (15, 84)),
    ],
)
def test_boxes_across_the_antimeridian_and_at_the_poles(
    box: tuple[float, ...], holds: tuple[float, float], lacks: tuple[float, float] | None
) -> None:
    shape = box_from_wire(CRS84, *box)
    assert shape.intersects(shapely.Point(holds))
    assert lacks is None or not shape.intersects(shapely.Point(lacks))


@pytest.mark.parametrize("box", [(0, 2, 1, 1), (math.nan, 0, 1, 1), (0, 0, math.inf, 1)])
def test_what_is_no_box(box: tuple[float, ...]) -> None:
    for crs in SPOKEN.values():
        with pytest.raises(ValueError, match=r"."):
            box_from_wire(crs, *((box[1], box[0], box[3], box[2]) if crs.north_first else box))


def test_a_box_of_metres_keeps_its_bent_edges_within_a_centimetre() -> None:
    crs = SPOKEN[f"{EPSG}4549"]
    shape = box_from_wire(crs, 3_330_000, 520_000, 3_370_000, 570_000)  # northing first
    back = np.column_stack(to_wire(crs, *shapely.get_coordinates(shapely.segmentize(shape, 0.0001)).T))
    norths = np.abs(back[:, :1] - [3_330_000, 3_370_000]).min(axis=1)
    easts = np.abs(back[:, 1:] - [520_000, 570_000]).min(axis=1)
    assert np.minimum(norths, easts).max() < 0.01
