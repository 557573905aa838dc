"""Decides: what to remark where a photo says something else than the record that cites it.

What a photo says is a claim, and so is the record; a difference stops nothing. Remarks on every photo would be read by
nobody, so each rule gives way where phones honestly differ: they say so in its constants.
"""

from __future__ import annotations

import datetime as dt
import math
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from sync.pictures import Facts
from sync.places import UNDECLARED_ACCURACY_M, distance_m, wgs84_from_gcj02

#: Every code that comparing may give. They last over an amend: what a photo says does not change with its record.
PHOTO_NOTES = frozenset(
    {
        *("photo-elsewhere", "photo-other-time", "photo-edited", "photo-differs"),
        *("photo-undecodable", "photo-too-costly", "photo-animated", "photo-polyglot"),
    }
)
#: How far from the place of the record a photo of the same matter is taken, m. ESTIMATE: a crossing, a site's fence.
WALKED_M = 150.0
#: How long before the record a photo of the same matter is taken. ESTIMATE: it is written down when the talk is over.
#: It also bears with satellites' times from the last fix, which a camera without a view of the sky goes on writing.
BEFORE_RECORD = dt.timedelta(hours=2)
#: How long after the operation that tells of it a photo may seem to be taken: what an unchecked wall clock is off.
AFTER_TOLD = dt.timedelta(minutes=10)
#: Programs that change pictures and say so in EXIF's Software; in lower case, anywhere in it. Cameras that print time
#: and place into the picture are none of them: the trade asks for these.
EDITORS = (
    *("photoshop", "lightroom", "adobe", "gimp", "pixelmator", "affinity", "paint.net", "acdsee", "photoscape"),
    *("snapseed", "picsart", "vsco", "facetune", "faceapp", "meitu", "xiuxiu", "beautycam", "ulike", "hypic", "xingtu"),
    *("photo editor", "photodirector", "fotor", "polarr"),
    *("美图", "美颜", "醒图", "轻颜", "天天p图", "光影魔术手"),
)
#: What a phone may call the same format by.
_ALIASES = {"image/jpg": "image/jpeg", "image/pjpeg": "image/jpeg", "image/heif": "image/heic"}
#: Types that say nothing.
_ANY_TYPE = {"", "image/*", "application/octet-stream"}
#: Flags of `pictures.Facts` that are remarks by themselves.
_REMARKED = ("undecodable", "too-costly", "animated", "polyglot")

Note = dict[str, Any]
#: A code and its figures.
_Remark = tuple[str, dict[str, Any]]


@dataclass(frozen=True, slots=True)
class Cited:
    """What a record says of one of its photos, and of itself.

    `type` and `size_bytes` are as announced, `kept_bytes` is what arrived. `off_ms` is how far the phone's wall clock
    was ahead, where that was remarked; `told_at` when the operation that announced the photo happened, if that is
    known. `lon`, `lat`, `error_m` are the record's.
    """

    sha256: str
    type: str
    size_bytes: int
    kept_bytes: int
    occurred_at: dt.datetime
    occurred_error_ms: int | None = None
    off_ms: int | None = None
    told_at: dt.datetime | None = None
    lon: float | None = None
    lat: float | None = None
    error_m: float | None = None


def compare(facts: Facts, cited: Cited) -> list[Note]:
    """What is to be remarked on the record because of the photo, as the notes of PROTOCOL.md with their figures."""
    remarks = (_elsewhere, _other_time, _edited, _differs, _flagged)
    found = (remark for remarked in remarks for remark in remarked(facts, cited))
    return [{"code": code, "sha256": cited.sha256, **figures} for code, figures in found]


def _elsewhere(facts: Facts, cited: Cited) -> Iterator[_Remark]:
    """Nothing if the place fits as GCJ-02: some Chinese cameras write that into EXIF, 500 m off."""
    if facts.lon is None or facts.lat is None or cited.lon is None or cited.lat is None:
        return
    errors_m = [UNDECLARED_ACCURACY_M if error is None else error for error in (facts.error_m, cited.error_m)]
    allowed_m = sum(errors_m) + WALKED_M
    found_m = distance_m(facts.lon, facts.lat, cited.lon, cited.lat)
    as_gcj02_m = distance_m(*wgs84_from_gcj02(facts.lon, facts.lat), cited.lon, cited.lat)
    if min(found_m, as_gcj02_m) > allowed_m:
        yield "photo-elsewhere", {"distance_m": round(found_m), "error_m": round(allowed_m)}


def _other_time(facts: Facts, cited: Cited) -> Iterator[_Remark]:
    """Nothing if it fits by the phone's own clock: the one in EXIF was as wrong as that of the record.

    A record of which nobody knows when it happened says nothing of its photos' times either.
    """
    if facts.taken_at is None or cited.occurred_error_ms is None:
        return
    error = dt.timedelta(milliseconds=cited.occurred_error_ms)
    from_at = cited.occurred_at - BEFORE_RECORD - error
    until_at = None if cited.told_at is None else max(cited.told_at, cited.occurred_at) + AFTER_TOLD + error
    differences = [_outside(at, from_at, until_at) for at in _times(facts.taken_at, facts.taken_how, cited.off_ms)]
    least = min(differences, key=abs)
    if least:
        yield "photo-other-time", {"difference_s": math.ceil(least) if least > 0 else math.floor(least)}


def _times(taken_at: dt.datetime, taken_how: str | None, off_ms: int | None) -> Iterator[dt.datetime]:
    """When it was taken as it says, and by its clock put right, which the satellites' needs not."""
    yield taken_at
    if taken_how != "gps" and off_ms is not None:
        with suppress(OverflowError):  # no calendar has that day
            yield taken_at - dt.timedelta(milliseconds=off_ms)


def _outside(at: dt.datetime, from_at: dt.datetime, until_at: dt.datetime | None) -> float:
    """How far out of a time, in s; before is negative."""
    if at < from_at:
        return (at - from_at).total_seconds()
    if until_at is not None and at > until_at:
        return (at - until_at).total_seconds()
    return 0.0


def _edited(facts: Facts, cited: Cited) -> Iterator[_Remark]:
    software = (facts.software or "").lower()
    if "edited" in facts.flags or any(editor in software for editor in EDITORS):
        yield "photo-edited", {"software": facts.software}


def _differs(facts: Facts, cited: Cited) -> Iterator[_Remark]:
    told = cited.type.lower().split(";")[0].strip()
    found = f"image/{facts.format}" if facts.format else None
    same_type = found is None or told in _ANY_TYPE or _ALIASES.get(told, told) == found
    if not same_type or cited.size_bytes != cited.kept_bytes:
        announced = {"type": cited.type, "bytes": cited.size_bytes}
        yield "photo-differs", {"announced": announced, "found": {"type": found, "bytes": cited.kept_bytes}}


def _flagged(facts: Facts, cited: Cited) -> Iterator[_Remark]:
    for flag in _REMARKED:
        if flag in facts.flags:
            size = {"width_px": facts.width_px, "height_px": facts.height_px} if flag == "too-costly" else {}
            yield f"photo-{flag}", size
