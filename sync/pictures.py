"""Looks at the bytes of a photo: what it says by itself, and the small pictures made of it. Nothing in it is trusted.

Pure of database and store. Whatever the bytes are, looking never raises: what can't be decoded, or would cost too much,
is a flag, and the photo stays evidence all the same.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import IO

from sync.problems import PhotoNotShown

#: The longest side of a thumb, px: a list of records on a phone.
THUMB_PX = 320
#: The longest side of a screen, px.
SCREEN_PX = 1280
#: The sizes a photo can be asked for besides its original, and their longest side in px.
SIZES: Mapping[str, int] = {"thumb": THUMB_PX, "screen": SCREEN_PX}


@dataclass(frozen=True, slots=True)
class Facts:
    """What a photo says by itself: the columns of `models.PhotoFacts` that a look gives, and the thumb made on the way.

    `format` is by content: `jpeg`, `png`, `webp`, `avif`, `heic`, or `None`. Width and height are as shown, upright.
    `flags` are `undecodable`, `too-costly`, `animated`, `polyglot`, `edited`. `thumb` is
    a JPEG of `THUMB_PX`, `None` if none can be made.
    """

    format: str | None = None
    width_px: int | None = None
    height_px: int | None = None
    flags: tuple[str, ...] = ()
    taken_at: dt.datetime | None = None
    taken_how: str | None = None
    lon: float | None = None
    lat: float | None = None
    error_m: float | None = None
    camera: str | None = None
    software: str | None = None
    dhash: str | None = None
    thumb: bytes | None = field(default=None, repr=False)


def look(file: IO[bytes]) -> Facts:
    """What the photo says by itself. Never raises, whatever the bytes are; `file` can seek."""
    return Facts(flags=("undecodable",))


def develop(file: IO[bytes], longest_px: int) -> bytes:
    """The photo as a JPEG: upright, its longest side at most so many px, without any metadata. `file` can seek.

    Raises PhotoNotShown if it can't be decoded or would cost too much.
    """
    raise PhotoNotShown()
