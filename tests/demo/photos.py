"""Photos of the demo: real JPEGs as a phone's camera makes them, but drawn, so that they show nobody."""

from __future__ import annotations

import datetime as dt
import io
from dataclasses import dataclass
from fractions import Fraction
from random import Random

from PIL import Image, ImageDraw
from PIL.ExifTags import GPS, IFD, Base

CANVAS = (320, 240)
#: Sides in px: with their grain, some 200 KB to 1.5 MB.
SIZES = ((1280, 960), (1600, 1200), (1920, 1440))
CAMERA = "演示相机"
#: EXIF's word for: turn this a quarter to the right to see it upright.
TURN_RIGHT = 6


@dataclass(frozen=True)
class Shot:
    """What the camera writes into a photo: the time by the satellites and by the phone's own clock, the place (WGS 84).

    `turned`: the phone was held upright, and the picture lies on its side in the file. `software` is what an editor
    leaves behind.
    """

    at: dt.datetime
    wall: dt.datetime
    lon: float
    lat: float
    turned: bool = False
    software: str = ""


def take(dice: Random, shot: Shot | None = None) -> bytes:
    """A JPEG of a stall under an awning, by chance a different one each time; without a shot it has no EXIF."""
    width, height = dice.choice(SIZES)
    picture = _draw(dice).resize((height, width) if shot and shot.turned else (width, height))
    grain = Image.frombytes("L", picture.size, dice.randbytes(width * height)).convert("RGB")
    picture = Image.blend(picture, grain, dice.uniform(0.05, 0.5))
    if shot and shot.turned:
        picture = picture.transpose(Image.Transpose.ROTATE_90)
    file = io.BytesIO()
    picture.save(file, "JPEG", quality=85, exif=_exif(shot) if shot else Image.Exif())
    return file.getvalue()


def _draw(dice: Random) -> Image.Image:
    picture = Image.new("RGB", CANVAS, (dice.randrange(150, 220), 200, 230))
    pen = ImageDraw.Draw(picture)
    pen.rectangle((0, 170, *CANVAS), fill=(120, 118, dice.randrange(100, 130)))
    left, top = dice.randrange(20, 140), dice.randrange(60, 110)
    pen.rectangle((left, top + 40, left + 150, 200), fill=_colour(dice))
    pen.polygon([(left - 10, top + 40), (left + 75, top), (left + 160, top + 40)], fill=_colour(dice))
    for _ in range(dice.randrange(8, 20)):
        x, y = dice.randrange(left, left + 140), dice.randrange(130, 190)
        pen.ellipse((x, y, x + 12, y + 12), fill=_colour(dice))
    return picture


def _colour(dice: Random) -> tuple[int, int, int]:
    return dice.randrange(256), dice.randrange(256), dice.randrange(256)


def _exif(shot: Shot) -> Image.Exif:
    exif = Image.Exif()
    exif[Base.Make], exif[Base.Model] = "DEMO", CAMERA.encode()
    exif[Base.Orientation] = TURN_RIGHT if shot.turned else 1
    if shot.software:
        exif[Base.Software] = shot.software
    taken = exif.get_ifd(IFD.Exif)
    exif[Base.DateTime] = taken[Base.DateTimeOriginal] = f"{shot.wall:%Y:%m:%d %H:%M:%S}"
    taken[Base.OffsetTime] = taken[Base.OffsetTimeOriginal] = "+08:00"
    taken[Base.SubsecTimeOriginal] = f"{shot.wall:%f}"[:3]
    exif.get_ifd(IFD.GPSInfo).update(_gps(shot))
    return exif


def _gps(shot: Shot) -> dict[int, object]:
    return {
        GPS.GPSVersionID: b"\2\3\0\0",
        GPS.GPSLatitudeRef: "N",
        GPS.GPSLatitude: _degrees(shot.lat),
        GPS.GPSLongitudeRef: "E",
        GPS.GPSLongitude: _degrees(shot.lon),
        GPS.GPSDateStamp: f"{shot.at:%Y:%m:%d}",
        GPS.GPSTimeStamp: (shot.at.hour, shot.at.minute, shot.at.second),
        GPS.GPSHPositioningError: 8.0,
        GPS.GPSMapDatum: "WGS-84",
    }


def _degrees(value: float) -> tuple[int, int, Fraction]:
    """Degrees, minutes, seconds to a hundredth: a third of a metre."""
    hundredths = round(value * 360_000)
    return hundredths // 360_000, hundredths // 6_000 % 60, Fraction(hundredths % 6_000, 100)
