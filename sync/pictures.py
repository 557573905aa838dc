"""Looks at the bytes of a photo: what it says by itself, and the small pictures made of it. Nothing in it is trusted.

Pure of database and store. What decoding costs is known before it begins, from the photo's layout; what costs more than
a server can spare is not decoded at all. Whatever the bytes are, looking never raises: the photo gets a flag and stays
evidence all the same.
"""

from __future__ import annotations

import ctypes
import datetime as dt
import io
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import IO, TypeVar

from PIL import AvifImagePlugin, Image, JpegImagePlugin, PngImagePlugin, WebPImagePlugin

from sync import containers, exif
from sync.containers import Layout
from sync.problems import PhotoNotShown

try:  # optional, see requirements-heic.txt; without it a HEIC tells its time and place, but can't be shown
    import pillow_heif
except ImportError:
    pillow_heif = None  # type: ignore[assignment]

#: The longest side of a thumb, px: a list of records on a phone.
THUMB_PX = 320
#: The longest side of a screen, px.
SCREEN_PX = 1280
#: The sizes a photo can be asked for besides its original, and their longest side in px.
SIZES: Mapping[str, int] = {"thumb": THUMB_PX, "screen": SCREEN_PX}
#: Of the JPEGs made here.
QUALITY = 80

#: What decoding one photo may hold, with the photo's own bytes: 150 MB with what is made of it. Measured with Pillow
#: 13.0 and pillow-heif 1.8. It allows JPEG of 210 Mpx (phones make 12, 48, 50, 108, 200), progressive ones of 20 to
#: 40 Mpx, PNG of 32, HEIC of 25 (iPhones make 12 and 24; not 48), AVIF of 14, WebP of 8.
MOST_BYTES = 135_000_000
#: What holds no more than this may be decoded beside another: every JPEG that is not progressive, every screenshot.
LIGHT_BYTES = 75_000_000
#: More pixels than any phone's sensor has. A JPEG of 200 Mpx, decoded at an eighth, takes 0.2 s.
MOST_PX = 210_000_000
#: The longest side that a JPEG can have, px; for all formats.
MOST_SIDE_PX = 65_535
#: Larger photos are not read, bytes: three times what phones may send unless an operator lets them.
MOST_PHOTO_BYTES = 64_000_000
#: Bytes per pixel that decoding holds, measured at 24 Mpx: planes of the decoder, and Pillow's picture.
PNG_HELD, WEBP_HELD, AVIF_HELD, HEIC_HELD = 4.0, 16.5, 9.2, 5.2
#: The same for AVIF and HEIC with more than 8 bits, more colours than 4:2:0, or transparency.
DEEP_HELD = 16.0
#: An AVIF is coded in whole blocks: its parts may be so much larger than the picture, px.
BLOCK_PX = 64
#: How many pixels are made smaller at a time, so that no second whole picture is held.
BAND_PX = 250_000
#: What is larger than this, bytes, goes back to the system as soon as it is free.
GIVEN_BACK_BYTES = 4 * 1024 * 1024

# A look takes a second at most. More threads would only take more memory, and processors that requests wait for.
AvifImagePlugin.DEFAULT_MAX_THREADS = 1
if pillow_heif is not None:
    pillow_heif.options.DECODE_THREADS = 1
    # An embedded thumb may show something else than the photo.
    pillow_heif.options.THUMBNAILS = pillow_heif.options.DEPTH_IMAGES = pillow_heif.options.AUX_IMAGES = False

# Left to itself glibc keeps what a thread once held for that thread: four that looked at the same photo one after the
# other held 130 MB for nothing (measured; 10 MB with this). Other libraries of C don't know the word.
with suppress(OSError, AttributeError):
    ctypes.CDLL("libc.so.6").mallopt(_M_MMAP_THRESHOLD := -3, GIVEN_BACK_BYTES)

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Facts:
    """What a photo says by itself: the columns of `models.PhotoFacts` that a look gives, and the thumb made on the way.

    `format` is by content: `jpeg`, `png`, `webp`, `avif`, `heic`, or `None`. Width and height are as shown, upright.
    `flags` are `undecodable`, `too-costly`, `animated`, `polyglot`, and `edited` for one saved again long after it was
    taken. `thumb` is a JPEG of `THUMB_PX`, `None` if none can be made.
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


class _TooCostly(Exception):
    """Decoding would hold more memory, or take more time, than it may."""


class _Undecodable(Exception):
    """No picture comes out of these bytes."""


def look(file: IO[bytes]) -> Facts:
    """What the photo says by itself. Never raises, whatever the bytes are; only reading `file` may, which can seek."""
    return _at_a_place(lambda most_bytes: _look(file, most_bytes))


def develop(file: IO[bytes], longest_px: int) -> bytes:
    """The photo as a JPEG: upright, its longest side at most so many px, without any metadata. `file` can seek.

    Transparency shows white. A colour profile is dropped, for none from outside is computed with: the colours of phones
    with a wide gamut come out a little pale. Raises PhotoNotShown if it can't be decoded or would cost too much.
    """
    try:
        return _at_a_place(lambda most_bytes: _jpeg(_picture(_open(file), longest_px, most_bytes)))
    except (_TooCostly, _Undecodable) as error:
        raise PhotoNotShown() from error


# ---------------------------------------------------------------- one look


def _look(file: IO[bytes], most_bytes: int) -> Facts:
    photo, picture, flags = _open(file), None, []
    try:
        picture = _picture(photo, THUMB_PX, most_bytes)
    except _TooCostly:
        if most_bytes < MOST_BYTES:
            raise
        flags.append("too-costly")
    except _Undecodable:
        flags.append("undecodable")
    also = {"animated": photo.layout.animated, "polyglot": photo.layout.polyglot, "edited": photo.told.saved_later}
    width_px, height_px = photo.shown_size or (None, None)
    return Facts(
        format=photo.layout.format,
        width_px=width_px,
        height_px=height_px,
        flags=(*flags, *(flag for flag, is_so in also.items() if is_so)),
        taken_at=photo.told.taken_at,
        taken_how=photo.told.taken_how,
        lon=photo.told.lon,
        lat=photo.told.lat,
        error_m=photo.told.error_m,
        camera=photo.told.camera,
        software=photo.told.software,
        dhash=_dhash(picture) if picture else None,
        thumb=_jpeg(picture) if picture else None,
    )


def _dhash(picture: Image.Image) -> str:
    """64 bits, row by row: whether it gets brighter from one of nine columns to the next; as `imagehash.dhash` does."""
    grey = picture.convert("L").resize((9, 8), Image.Resampling.LANCZOS).tobytes()
    bits = ("01"[grey[at + 1] > grey[at]] for row in range(0, 72, 9) for at in range(row, row + 8))
    return f"{int(''.join(bits), 2):016x}"


def _jpeg(picture: Image.Image) -> bytes:
    out = io.BytesIO()
    picture.save(out, "JPEG", quality=QUALITY)
    return out.getvalue()


# ---------------------------------------------------------------- who decodes when

_PLACES = threading.Semaphore(2)
_QUEUE = threading.Lock()


def _at_a_place(work: Callable[[int], _T]) -> _T:
    """What the work gives, told how many bytes it may hold. Two work at once; what costs more begins again, alone."""
    with suppress(_TooCostly), _places(1):
        return work(LIGHT_BYTES)
    with _places(2):
        return work(MOST_BYTES)


@contextmanager
def _places(count: int) -> Iterator[None]:
    with _QUEUE:  # else two that have one place each might both wait for another
        for _ in range(count):
            _PLACES.acquire()
    try:
        yield
    finally:
        _PLACES.release(count)


# ---------------------------------------------------------------- a small picture of a large one


class _Photo:
    """A photo that is being looked at: its layout, what it tells; its size and how it lies, as far as that is known."""

    def __init__(self, layout: Layout, size_bytes: int) -> None:
        self.layout = layout
        self.told = exif.read(layout.exif)
        self.size = layout.size
        self.orientation = self.told.orientation
        self._size_bytes = size_bytes

    @property
    def shown_size(self) -> tuple[int, int] | None:
        """Width and height, upright."""
        return self.size[::-1] if self.size and self.orientation in _LYING else self.size

    def source(self) -> IO[bytes]:
        """What the decoder reads. Raises _Undecodable if it isn't all there."""
        if self.layout.shown is None:
            raise _Undecodable
        return io.BytesIO(self.layout.shown)

    def afford(self, most_bytes: int, held_per_px: float) -> None:
        """Decoding holds no more than this many bytes. Raises _TooCostly if it does."""
        width, height = self.size or (0, 0)
        held = self._size_bytes + held_per_px * width * height
        if width * height > MOST_PX or max(width, height) > MOST_SIDE_PX or held > most_bytes:
            raise _TooCostly


def _open(file: IO[bytes]) -> _Photo:
    size_bytes = file.seek(0, io.SEEK_END)
    file.seek(0)
    if size_bytes > MOST_PHOTO_BYTES:
        return _Photo(Layout(containers.format_of(file.read(64)), endless=True), size_bytes)
    return _Photo(containers.read(file.read()), size_bytes)


#: How a picture is turned that EXIF says lies otherwise (JEITA CP-3451, tag 0x0112), and those that lie on a side.
_TURNED = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_LYING = {5, 6, 7, 8}


def _picture(photo: _Photo, longest_px: int, most_bytes: int) -> Image.Image:
    """The picture in RGB, upright, its longest side at most so many px, knowing nothing but its pixels.

    Raises _TooCostly, or _Undecodable for whatever a decoder raises.
    """
    if photo.layout.endless:
        raise _TooCostly
    decode = _DECODERS.get(photo.layout.format or "")
    if decode is None:
        raise _Undecodable
    try:
        small = _coarser(*decode(photo, longest_px, most_bytes), longest_px)  # what was decoded is free again
        small.thumbnail((longest_px, longest_px), Image.Resampling.LANCZOS)
    except _TooCostly:
        raise
    except Exception as error:
        raise _Undecodable from error
    turned = _TURNED.get(photo.orientation)
    return small if turned is None else small.transpose(turned)


#: Width and height of what was decoded, and its rows from one to before another.
_Decoded = tuple[tuple[int, int], Callable[[int, int], Image.Image]]


def _coarser(size: tuple[int, int], rows: Callable[[int, int], Image.Image], longest_px: int) -> Image.Image:
    """A half, a third, … of what was decoded, its longest side no less than so many px; a band of rows at a time."""
    width, height = size
    factor = max(1, min(16, max(size) // longest_px))
    small = Image.new("RGB", (-(-width // factor), -(-height // factor)))
    step = max(1, BAND_PX // (width * factor)) * factor
    for top in range(0, height, step):
        band = _on_white(rows(top, min(height, top + step)))
        small.paste(band.reduce(factor), (0, top // factor))
    return small


def _on_white(band: Image.Image) -> Image.Image:
    if band.mode == "I;16":
        return band.point(lambda value: value / 256, "L").convert("RGB")  # convert() alone would clip
    if band.has_transparency_data:
        white = Image.new("RGBA", band.size, "white")
        return Image.alpha_composite(white, band.convert("RGBA")).convert("RGB")
    return band.convert("RGB")


# ---------------------------------------------------------------- the decoders

# Each is called by its own class, not by Image.open: no other decoder is ever tried, and no bomb is warned of that was
# weighed before.


def _decode_jpeg(photo: _Photo, longest_px: int, most_bytes: int) -> _Decoded:
    """At a half, a quarter or an eighth, which libjpeg does on the way; a progressive one it holds whole even so."""
    photo.afford(most_bytes, photo.layout.held)
    image = JpegImagePlugin.JpegImageFile(photo.source())
    longest = max(image.size)
    image.draft("RGB", (max(1, image.width * longest_px // longest), max(1, image.height * longest_px // longest)))
    return _loaded(image)


def _decode_png(photo: _Photo, _longest_px: int, most_bytes: int) -> _Decoded:
    photo.afford(most_bytes, PNG_HELD)
    return _loaded(PngImagePlugin.PngImageFile(photo.source()))


def _decode_webp(photo: _Photo, _longest_px: int, most_bytes: int) -> _Decoded:
    photo.afford(most_bytes, WEBP_HELD)
    return _loaded(WebPImagePlugin.WebPImageFile(photo.source()))


def _decode_avif(photo: _Photo, _longest_px: int, most_bytes: int) -> _Decoded:
    """EXIF does not say how an AVIF lies; what does is told by Pillow as EXIF of its own making."""
    image = AvifImagePlugin.AvifImageFile(photo.source())
    photo.size = image.size
    photo.orientation = exif.read(image.info.get("exif", b"")).orientation
    photo.afford(most_bytes, AVIF_HELD if image.mode == "RGB" and not photo.layout.deep else DEEP_HELD)
    if any(coded > side + BLOCK_PX for coded, side in zip(photo.layout.coded_size, image.size, strict=True)):
        raise _Undecodable
    return _loaded(image)


def _decode_heic(photo: _Photo, _longest_px: int, most_bytes: int) -> _Decoded:
    """libheif turns it upright. Its rows are taken as they are, so that the picture is held once."""
    if pillow_heif is None:
        raise _Undecodable
    heif = pillow_heif.open_heif(photo.source())
    image = heif[heif.primary_index]
    plain = image.mode == "RGB" and image.info["bit_depth"] == 8 and image.info.get("chroma") == 420
    photo.size, photo.orientation = image.size, 1
    photo.afford(most_bytes, HEIC_HELD if plain else DEEP_HELD)
    data, mode, stride = image.data, image.mode, image.stride
    photo.size = width, height = image.size

    def rows(top: int, bottom: int) -> Image.Image:
        return Image.frombytes(mode, (width, bottom - top), data[top * stride : bottom * stride], "raw", mode, stride)

    return (width, height), rows


def _loaded(image: Image.Image) -> _Decoded:
    image.load()  # the one step that notices missing bytes
    return image.size, lambda top, bottom: image.crop((0, top, image.width, bottom))


_DECODERS = {
    "jpeg": _decode_jpeg,
    "png": _decode_png,
    "webp": _decode_webp,
    "avif": _decode_avif,
    "heic": _decode_heic,
}
