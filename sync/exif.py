"""What EXIF says of when, where and with what a photo was taken: a claim of whoever wrote it, read as such.

The few tags that matter are read from the block itself (JEITA CP-3451, CIPA DC-008), each within limits. Whatever the
bytes are, nothing raises: what is not as it should be is not there.
"""

from __future__ import annotations

import datetime as dt
import math
import re
import struct
from dataclasses import dataclass

#: A photo saved again so long after it was taken went through something. ESTIMATE: a night picture takes seconds.
SAVED_LATER = dt.timedelta(minutes=5)
#: What times are in when they don't say: China has had one zone and no summer time since 1991.
ASSUMED_ZONE = dt.timezone(dt.timedelta(hours=8), "Asia/Shanghai")
#: No camera's clock is believed outside of these years.
PLAUSIBLE_YEARS = range(1990, 2100)
#: What is kept of a text, characters.
MOST_CHARACTERS = 100
#: Entries of a directory that are looked at. Cameras write 60.
MOST_ENTRIES = 1_000
#: Further off than this is no error of positioning, m.
MOST_ERROR_M = 1_000_000

_MAKE, _MODEL, _ORIENTATION, _SOFTWARE, _SAVED, _EXIF, _GPS = 0x10F, 0x110, 0x112, 0x131, 0x132, 0x8769, 0x8825
_TAKEN, _TAKEN_ZONE = 0x9003, 0x9011
_LAT_REF, _LAT, _LON_REF, _LON, _GPS_TIME, _GPS_DAY, _GPS_ERROR = 0x01, 0x02, 0x03, 0x04, 0x07, 0x1D, 0x1F
_TEXTS, _WHOLES, _RATIOS = {2, 129}, {3: "H", 4: "I"}, {5: "II", 10: "ii"}
_TIME = re.compile(r"([0-9]{4})[:/-]([0-9]{2})[:/-]([0-9]{2})[ T]([0-9]{2}):([0-9]{2}):([0-9]{2})")
_ZONE = re.compile(r"([+-])(0[0-9]|1[0-4]):([0-5][0-9])")


@dataclass(frozen=True, slots=True)
class Exif:
    """What was told. `taken_at` is in UTC; `taken_how` is how: `gps`, by the wall clock in a `zone` told, or `assumed`.

    `orientation` is 1 to 8, 1 upright. `saved_later` is true if the photo was saved again long after it was taken.
    """

    orientation: int = 1
    taken_at: dt.datetime | None = None
    taken_how: str | None = None
    saved_later: bool = False
    lon: float | None = None
    lat: float | None = None
    error_m: float | None = None
    camera: str | None = None
    software: str | None = None


def read(block: bytes) -> Exif:
    """What the block says; it begins with its byte order, or with `Exif` before that."""
    first = _first(block)
    exif, gps = first.below(_EXIF), first.below(_GPS)
    wall, saved = _time(exif.text(_TAKEN)), _time(first.text(_SAVED))
    taken_at, taken_how = _taken(wall, exif.text(_TAKEN_ZONE), _gps_time(gps))
    lon, lat, error_m = _where(gps)
    return Exif(
        orientation=first.number(_ORIENTATION) or 1,
        taken_at=taken_at,
        taken_how=taken_how,
        saved_later=wall is not None and saved is not None and saved - wall > SAVED_LATER,
        lon=lon,
        lat=lat,
        error_m=error_m,
        camera=_camera(first.text(_MAKE), first.text(_MODEL)),
        software=first.text(_SOFTWARE),
    )


# ---------------------------------------------------------------- the block


class _Directory:
    """Tags and their values."""

    def __init__(self, block: bytes, order: str, at: int) -> None:
        self._block, self._order = block, order
        self._entries: dict[int, tuple[int, int, int]] = {}
        count = int.from_bytes(block[at : at + 2], "little" if order == "<" else "big")
        ends = min(at + 2 + 12 * min(count, MOST_ENTRIES), len(block))
        for entry in range(at + 2, ends - 11, 12):
            tag, kind, length = struct.unpack_from(order + "HHI", block, entry)
            self._entries.setdefault(tag, (kind, length, entry + 8))

    def below(self, tag: int) -> _Directory:
        """The directory that the tag points to."""
        return _Directory(self._block, self._order, self.number(tag) or len(self._block))

    def number(self, tag: int) -> int | None:
        """The first of the whole numbers."""
        kind, _, at = self._entries.get(tag, (0, 0, 0))
        return int(struct.unpack_from(self._order + _WHOLES[kind], self._block, at)[0]) if kind in _WHOLES else None

    def text(self, tag: int) -> str | None:
        """In single spaces, without control characters, at most `MOST_CHARACTERS`; `None` if nothing is left."""
        kind, length, at = self._entries.get(tag, (0, 0, 0))
        if kind not in _TEXTS:
            return None
        raw = self._value(at, length)[: 8 * MOST_CHARACTERS].split(b"\0")[0]
        shown = "".join(char if char.isprintable() else " " for char in _decoded(raw))
        return " ".join(shown.split())[:MOST_CHARACTERS].strip() or None

    def ratios(self, tag: int, count: int) -> list[float] | None:
        """So many fractions, if none of them is of zero."""
        kind, length, at = self._entries.get(tag, (0, 0, 0))
        raw = self._value(at, 8 * count) if kind in _RATIOS and length == count else b""
        if len(raw) < 8 * count:
            return None
        pairs = [*struct.iter_unpack(self._order + _RATIOS[kind], raw)]
        return [above / below for above, below in pairs] if all(below for _, below in pairs) else None

    def _value(self, at: int, size: int) -> bytes:
        """In the entry itself where four bytes are enough, else where the entry points to."""
        begins = at if size <= 4 else struct.unpack_from(self._order + "I", self._block, at)[0]
        return self._block[begins : begins + size]


def _first(block: bytes) -> _Directory:
    block = block.removeprefix(b"Exif\0\0")
    order = {b"II*\0": "<", b"MM\0*": ">"}.get(block[:4])
    if order is None or len(block) < 8:
        return _Directory(b"", "<", 0)
    return _Directory(block, order, struct.unpack_from(order + "I", block, 4)[0])


def _decoded(raw: bytes) -> str:
    """Text in UTF-8, or in GB 18030 as older Chinese apps write it."""
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError:
        return raw.decode("gb18030", "replace")


# ---------------------------------------------------------------- when, where, with what


def _taken(
    wall: dt.datetime | None, zone: str | None, by_gps: dt.datetime | None
) -> tuple[dt.datetime | None, str | None]:
    """The satellites' time, else the wall clock's in the zone told, else in that of China."""
    if by_gps is not None:
        return by_gps, "gps"
    if wall is None:
        return None, None
    told = _ZONE.fullmatch(zone or "")
    if told is None:
        return wall.replace(tzinfo=ASSUMED_ZONE).astimezone(dt.UTC), "assumed"
    east = dt.timedelta(hours=int(told[2]), minutes=int(told[3])) * (-1 if told[1] == "-" else 1)
    return (wall - east).replace(tzinfo=dt.UTC), "zone"


def _gps_time(gps: _Directory) -> dt.datetime | None:
    clock, midnight = gps.ratios(_GPS_TIME, 3), _time(f"{gps.text(_GPS_DAY)} 00:00:00")
    if clock is None or midnight is None:
        return None
    seconds = math.floor(clock[0] * 3600 + clock[1] * 60 + clock[2])
    return (midnight + dt.timedelta(seconds=seconds)).replace(tzinfo=dt.UTC) if 0 <= seconds <= 86_400 else None


def _time(text: str | None) -> dt.datetime | None:
    """A wall clock's time, which has no zone of its own."""
    found = _TIME.match(text or "")
    if found is None or int(found[1]) not in PLAUSIBLE_YEARS:
        return None
    try:
        return dt.datetime.fromisoformat("{}-{}-{}T{}:{}:{}".format(*found.groups()))
    except ValueError:
        return None  # no calendar has that day, no clock that time


def _where(gps: _Directory) -> tuple[float | None, float | None, float | None]:
    """Longitude, latitude and the error told, m. 0/0 is what broken positioning reports."""
    lon, lat = _degrees(gps, _LON, _LON_REF, "EW", 180), _degrees(gps, _LAT, _LAT_REF, "NS", 90)
    if lon is None or lat is None or lon == lat == 0:
        return None, None, None
    error = gps.ratios(_GPS_ERROR, 1)
    return lon, lat, error[0] if error and 0 <= error[0] <= MOST_ERROR_M else None


def _degrees(gps: _Directory, tag: int, reference: int, directions: str, most: int) -> float | None:
    parts, direction = gps.ratios(tag, 3), gps.text(reference)
    if parts is None or direction is None or direction not in directions:
        return None
    degrees = parts[0] + parts[1] / 60 + parts[2] / 3600
    if not 0 <= degrees <= most:
        return None
    return degrees if direction == directions[0] else -degrees


def _camera(make: str | None, model: str | None) -> str | None:
    """Make and model; the make only once where the model begins with it."""
    if make and model and not model.lower().startswith(make.lower()):
        return f"{make} {model}"[:MOST_CHARACTERS]
    return model or make
