"""Decides: what to remark where a photo says something else than the record that cites it."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from typing import Any

from sync.pictures import Facts

Note = dict[str, Any]

#: Every code that comparing may give. They last over an amend: what a photo says does not change with its record.
PHOTO_NOTES = frozenset(
    {
        *("photo-elsewhere", "photo-other-time", "photo-edited", "photo-differs"),
        *("photo-undecodable", "photo-too-costly", "photo-animated", "photo-polyglot"),
    }
)


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
    return []
