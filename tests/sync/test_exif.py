"""What EXIF says: written by Pillow and read here; whatever else may stand there is not believed, and never raises."""

from __future__ import annotations

import datetime as dt
import struct
import time
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from PIL.ExifTags import GPS, IFD, Base

from sync.exif import MOST_CHARACTERS, Exif, read
from tests.builders_photos import degrees, exif_of

WALL = "2026:11:20 09:12:40"


def told(**values: Any) -> Exif:
    return read(exif_of(**values).tobytes())


def utc(*parts: int) -> dt.datetime:
    return dt.datetime(*parts, tzinfo=dt.UTC)  # type: ignore[misc,arg-type]


@pytest.mark.parametrize(
    ("values", "at", "how"),
    [
        ({}, None, None),
        ({"wall": WALL}, utc(2026, 11, 20, 1, 12, 40), "assumed"),
        ({"wall": WALL, "zone": "+09:30"}, utc(2026, 11, 19, 23, 42, 40), "zone"),
        ({"wall": WALL, "zone": "-05:00"}, utc(2026, 11, 20, 14, 12, 40), "zone"),
        ({"wall": WALL, "zone": "+00:00"}, utc(2026, 11, 20, 9, 12, 40), "zone"),
        ({"wall": WALL, "zone": "   :  "}, utc(2026, 11, 20, 1, 12, 40), "assumed"),
        ({"wall": WALL, "zone": "+25:00"}, utc(2026, 11, 20, 1, 12, 40), "assumed"),
        ({"wall": "2026-11-20 09:12:40"}, utc(2026, 11, 20, 1, 12, 40), "assumed"),
        ({"wall": WALL, "gps_at": utc(2026, 11, 20, 1, 12, 31)}, utc(2026, 11, 20, 1, 12, 31), "gps"),
        ({"gps_at": utc(2026, 11, 20, 1, 12, 31)}, utc(2026, 11, 20, 1, 12, 31), "gps"),
        ({"wall": "0000:00:00 00:00:00"}, None, None),
        ({"wall": "    :  :     :  :  "}, None, None),
        ({"wall": "2026:02:30 09:12:40"}, None, None),
        ({"wall": "2026:11:20 25:12:40"}, None, None),
        ({"wall": "0001:01:01 00:00:00"}, None, None),
        ({"wall": "9999:12:31 23:59:59", "zone": "-12:00"}, None, None),
        ({"wall": "20261120091240"}, None, None),
    ],
)
def test_when_it_was_taken(values: dict[str, Any], at: dt.datetime | None, how: str | None) -> None:
    assert (told(**values).taken_at, told(**values).taken_how) == (at, how)


def with_gps(**values: Any) -> Exif:
    exif = Image.Exif()
    exif.get_ifd(IFD.GPSInfo).update({int(GPS[name]): value for name, value in values.items()})
    return read(exif.tobytes())


@pytest.mark.parametrize("clock", [(24, 61, 0), (25, 0, 0), (1, 2)])
def test_a_time_of_the_satellites_that_no_clock_shows_is_none(clock: tuple[int, ...]) -> None:
    assert with_gps(GPSDateStamp="2026:11:20", GPSTimeStamp=clock).taken_at is None


def test_the_satellites_last_second_of_a_year_is_the_next_year() -> None:
    assert with_gps(GPSDateStamp="2026:12:31", GPSTimeStamp=(23, 59, 60)).taken_at == utc(2027, 1, 1)


@pytest.mark.parametrize(
    ("lon", "lat"), [(120.512345, 30.187654), (-0.1275, 51.5072), (-70.66, -33.44), (0.0, 30.1), (180.0, 90.0)]
)
def test_where_it_was_taken(lon: float, lat: float) -> None:
    found = told(lon=lon, lat=lat, error_m=4.5)
    assert (found.lon, found.lat) == (pytest.approx(lon, abs=1e-7), pytest.approx(lat, abs=1e-7))
    assert found.error_m == pytest.approx(4.5)


PLACE = {
    "GPSLatitudeRef": "N",
    "GPSLatitude": degrees(30.18),
    "GPSLongitudeRef": "E",
    "GPSLongitude": degrees(120.51),
}


@pytest.mark.parametrize(
    "odd",
    [
        {"GPSLatitude": degrees(0), "GPSLongitude": degrees(0)},
        {"GPSLatitude": degrees(91)},
        {"GPSLongitude": degrees(181)},
        {"GPSLatitude": (30, 10)},
        {"GPSLatitudeRef": "X"},
        {"GPSLatitudeRef": "E"},
        {"GPSLongitudeRef": ""},
    ],
)
def test_a_place_that_is_none_is_not_told(odd: dict[str, Any]) -> None:
    assert with_gps(**PLACE).lat == pytest.approx(30.18)
    found = with_gps(**PLACE | odd)
    assert (found.lon, found.lat, found.error_m) == (None, None, None)


@pytest.mark.parametrize("part", [0, 1, 2])
def test_a_fraction_of_zero_is_no_place(part: int) -> None:
    block = exif_of(lon=120.51, lat=30.18).tobytes()
    thirty = block.index(struct.pack("<II", 30, 1))
    at = thirty + 8 * part + 4
    assert read(block).lat == pytest.approx(30.18)
    assert read(block[:at] + bytes(4) + block[at + 4 :]).lat is None


def test_an_error_that_is_none_leaves_the_place() -> None:
    found = with_gps(**PLACE, GPSHPositioningError=5_000_000.0)
    assert (found.lat, found.error_m) == (pytest.approx(30.18), None)


@pytest.mark.parametrize(
    ("make", "model", "camera"),
    [
        ("HUAWEI", "ALN-AL00", "HUAWEI ALN-AL00"),
        ("Xiaomi", "Xiaomi 14", "Xiaomi 14"),
        ("Apple", None, "Apple"),
        (None, "iPhone 16", "iPhone 16"),
        (None, None, None),
        ("  vivo\t\x01\n", "V2309A\x00rest", "vivo V2309A"),
        ("A" * 90, "B" * 90, "A" * 90 + " " + "B" * 9),
        (b"\xc3\xc0\xcd\xbc", None, "美图"),  # GB 18030
        ("演示相机".encode(), None, "演示相机"),
        (b"\xff\xfe\xff", None, "\ufffd\ufffd\ufffd"),
        ("\x00", " ", None),
    ],
)
def test_with_what_it_was_taken(make: Any, model: Any, camera: str | None) -> None:
    assert told(make=make, model=model).camera == camera


def test_software_is_short_and_without_control_characters() -> None:
    assert (
        told(software="Adobe\tPhotoshop\r\n 25.0\x7f" + "x" * 500).software
        == ("Adobe Photoshop 25.0 " + "x" * 500)[:100]
    )


@pytest.mark.parametrize(
    ("saved", "later"),
    [
        (None, False),
        (WALL, False),
        ("2026:11:20 09:12:55", False),  # a night picture
        ("2026:11:20 09:40:00", True),
        ("2026:11:19 09:12:40", False),
        ("nonsense", False),
    ],
)
def test_saved_long_after_it_was_taken(saved: str | None, later: bool) -> None:
    assert told(wall=WALL, saved=saved).saved_later is later


@pytest.mark.parametrize("orientation", range(1, 9))
def test_how_it_lies(orientation: int) -> None:
    assert told(orientation=orientation).orientation == orientation


def test_both_orders_of_bytes_are_read() -> None:
    exif = exif_of(orientation=6, wall=WALL, lon=120.51, lat=30.18, make="HUAWEI")
    little = read(exif.tobytes())
    exif.endian = ">"
    assert exif.tobytes()[6:8] == b"MM"
    assert read(exif.tobytes()) == little


@pytest.mark.parametrize(
    "block", [b"", b"Exif\0\0", b"II*\0", b"MM\0*\0\0\0\x08", b"II*\0\xff\xff\xff\xff", b"GIF89a" * 9]
)
def test_what_is_no_exif_says_nothing(block: bytes) -> None:
    assert read(block) == Exif()


def test_every_cut_of_a_block_is_read_as_far_as_it_goes() -> None:
    block = exif_of(orientation=6, wall=WALL, zone="+08:00", lon=120.51, lat=30.18, make="HUAWEI").tobytes()
    assert read(block).taken_how == "zone"
    for size in range(len(block)):
        read(block[:size])


def test_a_directory_of_itself_and_one_without_end_are_read_in_no_time() -> None:
    entry = struct.pack("<HHII", IFD.Exif, 4, 1, 8)
    long = struct.pack("<HHII", Base.Software, 2, 0xFFFFFFFF, 8)
    block = b"II*\0\x08\0\0\0" + struct.pack("<H", 0xFFFF) + (entry + long) * 400_000
    begins = time.process_time()
    assert len(read(block).software or "") <= MOST_CHARACTERS
    assert time.process_time() - begins < 0.5


BLOCK = exif_of(
    orientation=6, wall=WALL, zone="+08:00", saved=WALL, lon=120.5, lat=30.1, error_m=5, make="Demo"
).tobytes()
ENTRIES = st.tuples(
    st.sampled_from([0x10F, 0x112, 0x131, 0x132, 0x8769, 0x8825, 0x9003, 0x9011, 1, 2, 3, 4, 7, 0x1D, 0x1F]),
    st.sampled_from([1, 2, 3, 4, 5, 7, 9, 10, 11, 12, 129]),
    st.integers(0, 2**32 - 1) | st.integers(0, 8),
    st.integers(0, 2**32 - 1) | st.integers(0, 120),
)


def believable(found: Exif) -> None:
    assert found.taken_at is None or 1989 <= found.taken_at.year <= 2100
    assert found.lon is None or -180 <= found.lon <= 180
    assert found.lat is None or -90 <= found.lat <= 90
    assert found.error_m is None or 0 <= found.error_m <= 1_000_000
    for text in (found.camera, found.software):
        assert text is None or (0 < len(text) <= MOST_CHARACTERS and text.isprintable())


@settings(max_examples=300, deadline=None)
@given(st.lists(st.tuples(st.integers(0, len(BLOCK) - 1), st.integers(0, 255)), max_size=12))
def test_bytes_changed_anywhere_never_raise(changes: list[tuple[int, int]]) -> None:
    block = bytearray(BLOCK)
    for at, byte in changes:
        block[at] = byte
    believable(read(bytes(block)))


@settings(max_examples=300, deadline=None)
@given(st.sampled_from(["<", ">"]), st.lists(ENTRIES, max_size=10), st.binary(max_size=80))
def test_directories_by_chance_never_raise(order: str, entries: list[tuple[int, int, int, int]], rest: bytes) -> None:
    head = {"<": b"II*\0", ">": b"MM\0*"}[order] + struct.pack(order + "IH", 8, len(entries))
    believable(read(head + b"".join(struct.pack(order + "HHII", *entry) for entry in entries) + rest))
