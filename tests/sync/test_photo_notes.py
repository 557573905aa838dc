"""What is remarked where a photo says something else than its record, and what is not: phones honestly differ."""

from __future__ import annotations

import datetime as dt
from dataclasses import fields, replace
from typing import Any

import pytest
from geopy.distance import geodesic
from hypothesis import given, settings
from hypothesis import strategies as st

from sync.photo_notes import AFTER_TOLD, BEFORE_RECORD, PHOTO_NOTES, WALKED_M, Cited, compare
from sync.pictures import Facts
from sync.places import UNDECLARED_ACCURACY_M, distance_m, gcj02_from_wgs84
from sync.problems import NOTES

AT = dt.datetime(2026, 11, 20, 1, 12, 40, tzinfo=dt.UTC)
SHA256 = "ea6ced61645f7ebbab2471fb522591002336f496954af6fd976a798581f607e4"
LON, LAT = 120.5852, 30.1937
HOUR, MINUTE, DAY = dt.timedelta(hours=1), dt.timedelta(minutes=1), dt.timedelta(days=1)
#: Metres north, in degrees.
NORTH_M = 1 / 110_860
#: A record of a minute's certainty with a good fix, and a photo as it should be.
CITED = Cited(
    sha256=SHA256,
    type="image/jpeg",
    size_bytes=2_000_000,
    kept_bytes=2_000_000,
    occurred_at=AT,
    occurred_error_ms=60_000,
    told_at=AT,
    lon=LON,
    lat=LAT,
    error_m=12.0,
)
FACTS = Facts(
    "jpeg", 4032, 3024, (), AT - MINUTE, "gps", LON, LAT, 8.0, "HUAWEI ALN-AL00", "ALN-AL00 4.2.0.130", "0" * 16
)


def remarked(facts: dict[str, Any] | None = None, **cited: Any) -> dict[str, dict[str, Any]]:
    """The notes by their codes, without what all have."""
    notes = compare(replace(FACTS, **(facts or {})), replace(CITED, **cited))
    assert {note["sha256"] for note in notes} <= {SHA256}
    return {note["code"]: {name: note[name] for name in note if name not in ("code", "sha256")} for note in notes}


def test_a_photo_as_it_should_be_is_not_remarked() -> None:
    assert remarked() == {}


def test_a_photo_that_says_nothing_is_not_remarked() -> None:
    assert compare(Facts("jpeg", 4032, 3024, ()), CITED) == []


def test_every_remark_is_known_and_lasts() -> None:
    all_at_once = Facts(
        "png", 9, 9, ("undecodable", "too-costly", "animated", "polyglot", "edited"), AT - DAY, "gps", 1.0, 2.0
    )
    assert {note["code"] for note in compare(all_at_once, CITED)} == PHOTO_NOTES
    assert set(NOTES) >= PHOTO_NOTES


# ---------------------------------------------------------------- where


@pytest.mark.parametrize(
    ("north_m", "facts", "cited", "said"),
    [
        (160, {}, {}, None),
        (180, {}, {}, {"distance_m": 180, "error_m": 170}),
        (180, {"error_m": 30.0}, {}, None),
        (180, {}, {"error_m": 40.0}, None),
        (255, {"error_m": None}, {}, None),
        (270, {"error_m": None}, {}, {"distance_m": 270, "error_m": 262}),
        (255, {}, {"error_m": None}, None),
        (1_000, {}, {"error_m": 800.0}, {"distance_m": 1_000, "error_m": 958}),
        (90_000, {}, {}, {"distance_m": 90_000, "error_m": 170}),
    ],
)
def test_elsewhere_is_beyond_both_errors_and_a_walk(
    north_m: float, facts: dict[str, Any], cited: dict[str, Any], said: dict[str, Any] | None
) -> None:
    assert (12 + 8 + WALKED_M, UNDECLARED_ACCURACY_M) == (170, 100)
    found = remarked({"lat": LAT + north_m * NORTH_M, **facts}, **cited)
    if said is not None:
        said["distance_m"] = pytest.approx(said["distance_m"], rel=0.01)
    assert found == ({} if said is None else {"photo-elsewhere": said})


def test_without_a_position_on_either_side_nothing_is_elsewhere() -> None:
    far, none = {"lon": 116.4, "lat": 39.9}, {"lon": None, "lat": None, "error_m": None}
    assert "photo-elsewhere" in remarked(far)
    assert remarked(none) == {}
    assert remarked(far, **none) == {}


def test_a_camera_that_writes_gcj_02_is_where_its_record_is() -> None:
    lon, lat = gcj02_from_wgs84(LON, LAT)
    assert distance_m(lon, lat, LON, LAT) > 450
    assert remarked({"lon": lon, "lat": lat}) == {}


def test_as_far_off_as_gcj_02_the_other_way_is_elsewhere() -> None:
    lon, lat = gcj02_from_wgs84(LON, LAT)
    assert "photo-elsewhere" in remarked({"lon": 2 * LON - lon, "lat": 2 * LAT - lat})


@settings(max_examples=200, deadline=None)
@given(*[st.floats(-180, 180), st.floats(-90, 90)] * 2)
def test_distances_are_those_of_the_geodesic(lon: float, lat: float, other_lon: float, other_lat: float) -> None:
    true_m = geodesic((lat, lon), (other_lat, other_lon)).m
    assert distance_m(lon, lat, other_lon, other_lat) == pytest.approx(true_m, rel=0.006, abs=0.01)


# ---------------------------------------------------------------- when

#: A record may be a minute earlier or later than it says.
ERROR = MINUTE


@pytest.mark.parametrize(
    ("taken_at", "difference_s"),
    [
        (AT, None),
        (AT - BEFORE_RECORD - ERROR, None),
        (AT - BEFORE_RECORD - ERROR - dt.timedelta(seconds=90), -90),
        (AT - 3 * DAY, -(3 * 86_400 - 7_200 - 60)),
        (AT + AFTER_TOLD + ERROR, None),
        (AT + AFTER_TOLD + ERROR + dt.timedelta(milliseconds=100), 1),
        (AT + DAY, 86_400 - 600 - 60),
    ],
)
def test_other_time_is_long_before_the_record_or_after_it_was_told(
    taken_at: dt.datetime, difference_s: int | None
) -> None:
    found = remarked({"taken_at": taken_at})
    assert found == ({} if difference_s is None else {"photo-other-time": {"difference_s": difference_s}})


def test_a_photo_that_an_amend_adds_may_be_of_the_next_day() -> None:
    after = {"taken_at": AT + DAY - HOUR}
    assert "photo-other-time" in remarked(after)
    assert remarked(after, told_at=AT + DAY) == {}
    assert remarked({"taken_at": AT + DAY + HOUR}, told_at=AT + DAY) == {"photo-other-time": {"difference_s": 2_940}}


def test_where_nobody_knows_when_it_was_told_no_photo_is_too_late() -> None:
    assert remarked({"taken_at": AT + 30 * DAY}, told_at=None) == {}
    assert "photo-other-time" in remarked({"taken_at": AT - DAY}, told_at=None)


def test_an_operation_that_seems_told_before_its_record_does_not_make_photos_late() -> None:
    assert remarked({"taken_at": AT}, told_at=AT - HOUR) == {}


def test_where_nobody_knows_when_it_happened_no_photo_is_of_another_time() -> None:
    assert remarked({"taken_at": AT - 300 * DAY}, occurred_error_ms=None) == {}


@pytest.mark.parametrize("how", ["zone", "assumed"])
@pytest.mark.parametrize("off", [3 * DAY, -3 * DAY])
def test_a_clock_that_was_corrected_is_corrected_in_the_photo_too(how: str, off: dt.timedelta) -> None:
    wrong = {"taken_at": AT + off, "taken_how": how}
    off_ms = off // dt.timedelta(milliseconds=1)
    assert remarked(wrong, off_ms=off_ms) == {}
    assert remarked({**wrong, "taken_at": AT}, off_ms=off_ms) == {}  # the phone had been put right meanwhile
    assert "photo-other-time" in remarked(wrong)
    assert "photo-other-time" in remarked({**wrong, "taken_how": "gps"}, off_ms=off_ms)


def test_of_two_readings_the_nearer_is_told() -> None:
    wrong = {"taken_at": AT + 3 * DAY + 5 * HOUR, "taken_how": "zone"}
    assert remarked(wrong, off_ms=3 * 86_400_000) == {"photo-other-time": {"difference_s": 5 * 3_600 - 660}}


def test_a_clock_thousands_of_years_ahead_raises_nothing() -> None:
    assert remarked({"taken_how": "zone"}, off_ms=7_900 * 366 * 86_400_000) == {}


# ---------------------------------------------------------------- what


@pytest.mark.parametrize(
    ("software", "flags", "edited"),
    [
        ("Adobe Photoshop 25.0 (Windows)", (), True),
        ("Snapseed 2.0", (), True),
        ("美图秀秀 10.3", (), True),
        ("醒图", (), True),
        ("GIMP 2.10.36", (), True),
        (None, ("edited",), True),
        ("ALN-AL00 4.2.0.130", ("edited",), True),
        ("ALN-AL00 4.2.0.130(SP1C00E130R5P2)", (), False),
        ("HDR+ 1.0.585804376zd", (), False),
        ("18.1.1", (), False),
        ("今日水印相机", (), False),
        ("MediaTek Camera Application", (), False),
        (None, (), False),
    ],
)
def test_edited_by_its_own_word(software: str | None, flags: tuple[str, ...], edited: bool) -> None:
    found = remarked({"software": software, "flags": flags})
    assert found == ({"photo-edited": {"software": software}} if edited else {})


@pytest.mark.parametrize(
    ("told", "format", "differs"),
    [
        ("image/jpeg", "jpeg", False),
        ("image/jpg", "jpeg", False),
        ("IMAGE/JPEG; quality=80", "jpeg", False),
        ("image/heif", "heic", False),
        ("image/*", "png", False),
        ("application/octet-stream", "webp", False),
        ("image/jpeg", "heic", True),
        ("image/png", "jpeg", True),
        ("video/mp4", "jpeg", True),
    ],
)
def test_another_type_than_announced(told: str, format: str, differs: bool) -> None:
    said = {"announced": {"type": told, "bytes": 2_000_000}, "found": {"type": f"image/{format}", "bytes": 2_000_000}}
    assert remarked({"format": format}, type=told) == ({"photo-differs": said} if differs else {})


def test_another_size_than_announced() -> None:
    said = {
        "announced": {"type": "image/jpeg", "bytes": 2_000_000},
        "found": {"type": "image/jpeg", "bytes": 1_999_999},
    }
    assert remarked(kept_bytes=1_999_999) == {"photo-differs": said}


def test_what_is_no_photo_at_all_is_of_no_other_type() -> None:
    assert remarked({"format": None, "flags": ("undecodable",)}) == {"photo-undecodable": {}}


@pytest.mark.parametrize("flag", ["undecodable", "animated", "polyglot"])
def test_what_the_look_found_is_remarked(flag: str) -> None:
    assert remarked({"flags": (flag,)}) == {f"photo-{flag}": {}}


def test_too_costly_says_how_large() -> None:
    found = remarked({"flags": ("too-costly",), "width_px": 9_400, "height_px": 9_400})
    assert found == {"photo-too-costly": {"width_px": 9_400, "height_px": 9_400}}


def test_notes_are_plain_values() -> None:
    for name in (field.name for field in fields(Facts) if field.name not in ("flags", "format")):
        compare(replace(FACTS, **{name: None}), CITED)
    all_at_once = Facts("png", 9, 9, ("too-costly", "edited"), AT - DAY, "gps", 1.0, 2.0, None, None, "GIMP")
    for note in compare(all_at_once, CITED):
        for value in note.values():
            assert isinstance(value, str | int | dict)
