"""Real photos to test with: drawn, encoded by Pillow, with the EXIF that the call shows."""

from __future__ import annotations

import datetime as dt
import io
from collections.abc import Mapping
from fractions import Fraction
from random import Random
from typing import Any

import pillow_heif
from PIL import Image, ImageDraw
from PIL.ExifTags import GPS, IFD, Base

pillow_heif.register_heif_opener()

#: What Pillow calls the formats of `sync.pictures`.
ENCODERS = {"jpeg": "JPEG", "png": "PNG", "webp": "WEBP", "avif": "AVIF", "heic": "HEIF"}


def photo(width: int = 96, height: int = 64, *, format: str = "jpeg", seed: int = 0, **exif: Any) -> bytes:
    """A photo of a scene, another one for every seed. What else is named goes into its EXIF, see `exif_of`."""
    return encoded(scene(width, height, seed), format, **({"exif": exif_of(**exif)} if exif else {}))


def encoded(picture: Image.Image, format: str, **options: Any) -> bytes:
    """The picture in one of `ENCODERS`, fast rather than small."""
    file = io.BytesIO()
    fast: Mapping[str, Any] = {"avif": {"speed": 10, "max_threads": 1}, "png": {"compress_level": 1}}.get(format, {})
    if format == "heic" and "exif" in options:
        options["exif"] = options["exif"].tobytes()  # only so does it say in its own way how it lies
    picture.save(file, ENCODERS[format], **{**fast, **options})
    return file.getvalue()


def scene(width: int, height: int, seed: int = 0) -> Image.Image:
    """Large coloured things, by chance: what small pictures of it show too."""
    dice = Random(seed)
    picture = Image.new("RGB", (width, height), _colour(dice))
    pen = ImageDraw.Draw(picture)
    for _ in range(12):
        left, top = dice.randrange(width), dice.randrange(height)
        right, bottom = left + dice.randrange(1, 2 + width // 2), top + dice.randrange(1, 2 + height // 2)
        pen.rectangle((left, top, right, bottom), fill=_colour(dice))
    return picture


def _colour(dice: Random) -> tuple[int, int, int]:
    return dice.randrange(256), dice.randrange(256), dice.randrange(256)


def exif_of(
    *,
    orientation: int | None = None,
    wall: str | None = None,
    zone: str | None = None,
    saved: str | None = None,
    gps_at: dt.datetime | None = None,
    lon: float | None = None,
    lat: float | None = None,
    error_m: float | None = None,
    make: str | None = None,
    model: str | None = None,
    software: str | None = None,
) -> Image.Exif:
    """EXIF as cameras write it. `wall` and `saved` are the phone's clock, `2026:11:20 09:12:40`; `zone` is `+08:00`."""
    exif = Image.Exif()
    _put(exif, {Base.Orientation: orientation, Base.Make: make, Base.Model: model})
    _put(exif, {Base.Software: software, Base.DateTime: saved})
    _put(exif.get_ifd(IFD.Exif), {Base.DateTimeOriginal: wall, Base.OffsetTimeOriginal: zone})
    gps = exif.get_ifd(IFD.GPSInfo)
    if lon is not None and lat is not None:
        _put(gps, {GPS.GPSLongitudeRef: "E" if lon >= 0 else "W", GPS.GPSLongitude: degrees(abs(lon))})
        _put(gps, {GPS.GPSLatitudeRef: "N" if lat >= 0 else "S", GPS.GPSLatitude: degrees(abs(lat))})
        _put(gps, {GPS.GPSHPositioningError: error_m})
    if gps_at is not None:
        at = gps_at.astimezone(dt.UTC)
        _put(gps, {GPS.GPSDateStamp: f"{at:%Y:%m:%d}", GPS.GPSTimeStamp: (at.hour, at.minute, at.second)})
    return exif


def _put(directory: Any, values: Mapping[int, Any]) -> None:
    for tag, value in values.items():
        if value is not None:
            directory[int(tag)] = value


def degrees(value: float) -> tuple[int, int, Fraction]:
    """Degrees, minutes and seconds, these to a ten thousandth: 3 mm."""
    parts = round(value * 36_000_000)
    return parts // 36_000_000, parts // 600_000 % 60, Fraction(parts % 600_000, 10_000)
