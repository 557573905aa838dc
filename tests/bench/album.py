"""Photos as a phone's camera makes them, invented: real JPEGs with EXIF, textured so that they weigh what photos weigh.

One picture is drawn per camera; photos of it differ by a comment of their own, so each has another SHA-256 and all of
them decode.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from random import Random

from PIL import Image

#: Pixels of the coarse pattern that is blown up: colours like those of a street, not of a screen.
_CELL_PX = 32
#: A JPEG's start, and its segment for a comment.
_START, _COMMENT = b"\xff\xd8", b"\xff\xfe"
#: EXIF: the tags of the camera and of the instant, and the folder that the instant is in.
_MODEL, _EXIF, _TAKEN, _ZONE = 0x0110, 0x8769, 0x9003, 0x9011


@dataclass(frozen=True)
class Camera:
    """What decides how large its photos are. `grain` is the noise of its sensor."""

    width_px: int
    height_px: int
    quality: int
    grain: int


#: 12 Mpx, 3.2 MB: what phones make.
PHONE = Camera(4000, 3000, 85, 15)
#: 50 Mpx, 19 MB: just below what the server takes.
LARGEST = Camera(8160, 6120, 85, 30)


@dataclass(frozen=True)
class Photo:
    """Bytes in two pieces: what is its own, and what all of its camera share (they would not fit into memory)."""

    head: bytes
    tail: bytes
    sha256: str

    def __len__(self) -> int:
        return len(self.head) + len(self.tail)

    def cut(self, start: int, stop: int) -> Iterator[memoryview]:
        """The bytes from start to stop."""
        own = len(self.head)
        yield memoryview(self.head)[start:stop]
        yield memoryview(self.tail)[max(0, start - own) : max(0, stop - own)]


def photos(camera: Camera, name: str, count: int) -> Sequence[Photo]:
    """So many photos; the same name gives the same ones."""
    return [_photo(picture(camera), f"{name} {number}") for number in range(count)]


def _photo(whole: bytes, comment: str) -> Photo:
    said = comment.encode()
    head = _START + _COMMENT + (len(said) + 2).to_bytes(2, "big") + said
    tail = whole[len(_START) :]
    digest = hashlib.sha256(head)
    digest.update(tail)
    return Photo(head, tail, digest.hexdigest())


@cache
def picture(camera: Camera) -> bytes:
    """The JPEG that all photos of this camera show."""
    size = (camera.width_px, camera.height_px)
    cells = (camera.width_px // _CELL_PX, camera.height_px // _CELL_PX)
    coarse = Image.frombytes("RGB", cells, Random(camera.quality).randbytes(3 * cells[0] * cells[1]))
    grain = Image.effect_noise(size, camera.grain)
    street = Image.blend(coarse.resize(size, Image.Resampling.BICUBIC), Image.merge("RGB", (grain,) * 3), 0.5)
    file = io.BytesIO()
    street.save(file, "JPEG", quality=camera.quality, exif=_exif())
    return file.getvalue()


def _exif() -> Image.Exif:
    exif = Image.Exif()
    exif[_MODEL] = "Bench 1"
    exif[_EXIF] = {_TAKEN: "2026:11:20 15:04:31", _ZONE: "+08:00"}
    return exif
