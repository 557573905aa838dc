"""How a photo's bytes are laid out: its format by content, its size, its EXIF, and what of it makes the picture.

Read before any decoder sees a byte, and within limits. `shown` is the photo without what decoders and Pillow need not
see: EXIF, profiles, texts, further frames and pictures. Their readers take time and memory that nobody limits, and a
flaw in them must not hide the picture. Touches only bytes; what is done with a layout is decided in `pictures`.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass

#: Segments of a JPEG, boxes of an AVIF or HEIC beside each other, items in it, units they are coded in. Photos have a
#: hundred or two.
MOST_PARTS = 1_000
#: Chunks of a PNG. Photos have one per 8 KiB.
MOST_CHUNKS = 20_000
#: Passes over the picture in a JPEG. Encoders make ten; each takes as long as the picture is large, however empty.
MOST_SCANS = 64
#: Where texts and programs are looked for: at the start, right behind the picture, at the end. Bytes each.
STRANGE_BYTES = 65_536


@dataclass(slots=True)
class Layout:
    """What the structure tells. `shown` is what a decoder may see; `None` if something is missing or broken.

    `size` is width and height as stored, before the picture is turned upright; `end` is where the picture ends. `held`
    is what libjpeg holds of a JPEG that comes in several passes, in bytes per pixel. `coded_size` is the largest width
    and height that parts of an AVIF are coded in, `deep` whether in more colours than 4:2:0. `endless` are more parts
    than photos have.
    """

    format: str | None
    size: tuple[int, int] | None = None
    exif: bytes = b""
    shown: bytes | None = None
    end: int = 0
    animated: bool = False
    polyglot: bool = False
    endless: bool = False
    held: float = 0.0
    coded_size: tuple[int, int] = (0, 0)
    deep: bool = False


class _Endless(Exception):
    """More parts than photos have."""


def read(data: bytes) -> Layout:
    """How the photo is laid out. Never raises; what was found before something was broken stands in the layout."""
    layout = Layout(format_of(data))
    if layout.format is None:
        return layout
    try:
        _READERS[layout.format](data, layout)
    except _Endless:
        layout.endless = True
    except (ValueError, ArithmeticError, LookupError, struct.error):
        layout.shown = None
    layout.polyglot = _is_more(data, layout.end)
    return layout


#: Brands of AVIF (AOM, AV1 Image File Format) and HEIC (ISO/IEC 23008-12).
_BRANDS = {
    **dict.fromkeys((b"avif", b"avis"), "avif"),
    **dict.fromkeys((b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx"), "heic"),
}


def format_of(head: bytes) -> str | None:
    """`jpeg`, `png`, `webp`, `avif`, `heic` by the first 64 bytes, else `None`."""
    if head.startswith(b"\xff\xd8\xff"):
        return "jpeg"
    if head.startswith(b"\x89PNG\r\n\x1a\n"):
        return "png"
    if head.startswith(b"RIFF") and head[8:12] == b"WEBP":
        return "webp"
    if head[4:8] != b"ftyp":
        return None
    brands = head[8:12] + head[16 : min(64, int.from_bytes(head[:4], "big"))]
    named = (_BRANDS.get(brands[at : at + 4]) for at in range(0, len(brands), 4))
    return next((name for name in named if name), None)


# ---------------------------------------------------------------- what else the bytes are

#: Can't be mistaken for a photo: scripts and pages, archives that open wherever they begin, programs.
_STRANGERS = re.compile(
    rb"(?i:<\?php|<!doctype html|<(?:html|script|iframe)[\s>])"
    rb"|Rar!\x1a\x07|7z\xbc\xaf\x27\x1c|\x7fELF[\x01\x02][\x01\x02]\x01|This program cannot be run in DOS mode"
)
#: A PDF may begin this far into a file, bytes (Adobe's readers).
_PDF_BYTES = 1_024
#: A ZIP's end record with its longest comment.
_ZIP_END_BYTES = 22 + 65_535


def _is_more(data: bytes, end: int) -> bool:
    """Whether the bytes are also something else. What phones put behind a picture isn't: pictures, films, own notes."""
    parts = data[:STRANGE_BYTES], data[end : end + STRANGE_BYTES], data[-STRANGE_BYTES:]
    return any(_STRANGERS.search(part) for part in parts) or b"%PDF-" in data[:_PDF_BYTES] or _is_zip(data)


def _is_zip(data: bytes) -> bool:
    """Whether a ZIP's end record stands where readers look for one, with its directory before it."""
    first = max(0, len(data) - _ZIP_END_BYTES)
    found = data.rfind(b"PK\x05\x06", first)
    while found >= 0:
        begins = max(0, found - int.from_bytes(data[found + 12 : found + 16], "little"))
        if data.startswith(b"PK\x01\x02", begins) or data.startswith(b"PK\x06\x07", max(0, found - 20)):
            return True
        found = data.rfind(b"PK\x05\x06", first, found)
    return False


# ---------------------------------------------------------------- JPEG (ITU T.81)

#: A marker that a length follows. Nothing in a coded picture looks like one.
_MARKER = re.compile(rb"\xff[^\x00\x01\xff\xd0-\xd8]")
_BASELINE, _EXTENDED, _PROGRESSIVE, _EOI, _SOS, _APP1 = 0xC0, 0xC1, 0xC2, 0xD9, 0xDA, 0xE1
_FRAMES = {_BASELINE, _EXTENDED, _PROGRESSIVE}
#: Frames that nobody takes photos in (lossless, differential, arithmetic), and the end before there was one.
_NO_PHOTO = {0xC3, 0xC5, 0xC6, 0xC7, 0xC9, 0xCA, 0xCB, 0xCD, 0xCE, 0xCF, _EOI}
_HUFFMAN, _QUANTIZATION, _RESTART = 0xC4, 0xDB, 0xDD
_SHOWN_SEGMENTS = {*_FRAMES, _SOS, _HUFFMAN, _QUANTIZATION, _RESTART}


def _read_jpeg(data: bytes, layout: Layout) -> None:
    """Shown are tables, one frame and its scans; of APP segments those that tell how colours are coded."""
    pieces = [b"\xff\xd8"]
    frame, coded = b"", len(data)
    for marker, segment, ends in _segments(data, 2):
        if marker == _APP1 and segment[4:10] == b"Exif\0\0":
            layout.exif = layout.exif or segment[10:]
        if marker in _NO_PHOTO or (frame and marker in _FRAMES):
            raise ValueError("no photo's frame")
        if marker in _FRAMES:
            frame = segment
            layout.size = int.from_bytes(frame[7:9], "big"), int.from_bytes(frame[5:7], "big")
        if marker in _SHOWN_SEGMENTS or segment[4:9] in (b"JFIF\0", b"Adobe"):
            pieces.append(segment)
        if marker == _SOS:
            coded = ends
            break
    scans, layout.end = _scans(data, coded)
    if frame[1] == _PROGRESSIVE or pieces[-1][4] < frame[9]:
        layout.held = _coefficient_bytes_per_px(frame)
        layout.endless = scans > MOST_SCANS
    layout.shown = b"".join([*pieces, memoryview(data)[coded:]])


def _segments(data: bytes, at: int) -> Iterator[tuple[int, bytes, int]]:
    """Marker, segment with its marker, and where it ends; the mark of the picture's end is the last.

    Raises ValueError where there are no more, or one is cut off.
    """
    for _ in range(MOST_PARTS):
        found = _MARKER.search(data, at)
        if found is None:
            raise ValueError("no more segments")
        marker, at = data[found.end() - 1], found.end()
        if marker != _EOI:
            at += max(2, int.from_bytes(data[at : at + 2], "big"))
        if at > len(data):
            raise ValueError("cut off")
        yield marker, data[found.start() : at], at
        if marker == _EOI:
            return
    raise _Endless


def _scans(data: bytes, at: int) -> tuple[int, int]:
    """How many scans there are, the first having begun, and where the picture ends."""
    scans = 1
    with suppress(ValueError, _Endless):
        for marker, _, ends in _segments(data, at):
            scans += marker == _SOS
            if marker == _EOI:
                return scans, ends
    return scans, len(data)


def _coefficient_bytes_per_px(frame: bytes) -> float:
    """2 bytes per coefficient, of which coarse colours have fewer."""
    samplings = [divmod(frame[at], 16) for at in range(11, 11 + 3 * frame[9], 3)]
    finest = max(across for across, _ in samplings) * max(down for _, down in samplings)
    return 2.0 * sum(across * down for across, down in samplings) / finest


# ---------------------------------------------------------------- PNG, WebP

#: The chunks that make the picture; besides there are times, texts, profiles, further frames.
_SHOWN_CHUNKS = {b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND"}


def _read_png(data: bytes, layout: Layout) -> None:
    layout.size = int.from_bytes(data[16:20], "big"), int.from_bytes(data[20:24], "big")
    pieces, at = [memoryview(data)[:8]], 8
    for _ in range(MOST_CHUNKS):
        length, kind = struct.unpack_from(">I4s", data, at)
        body, at, begins = at + 8, at + 12 + length, at
        if kind in _SHOWN_CHUNKS:
            pieces.append(memoryview(data)[begins:at])
        elif kind == b"acTL":
            layout.animated = length == 8 and int.from_bytes(data[body : body + 4], "big") > 1
        elif kind == b"eXIf":
            layout.exif = data[body : body + length]
        if kind == b"IEND":
            break
    else:
        raise _Endless
    layout.end = at
    layout.shown = b"".join(pieces)


def _read_webp(data: bytes, layout: Layout) -> None:
    layout.end = min(len(data), 8 + int.from_bytes(data[4:8], "little"))
    frames, at = 0, 12
    for _ in range(MOST_PARTS):
        if at + 8 > layout.end:
            break
        kind, length = struct.unpack_from("<4sI", data, at)
        body = at + 8
        if kind in _WEBP_SIZES and layout.size is None:
            layout.size = _WEBP_SIZES[kind](data[body : body + 10])
        elif kind == b"EXIF":
            layout.exif = data[body : body + length]
        frames += kind == b"ANMF"
        at = body + length + length % 2
    else:
        raise _Endless
    layout.animated = frames > 1
    layout.shown = data


def _vp8x_size(body: bytes) -> tuple[int, int]:
    return int.from_bytes(body[4:7], "little") + 1, int.from_bytes(body[7:10], "little") + 1


def _vp8_size(body: bytes) -> tuple[int, int]:
    width, height = struct.unpack_from("<HH", body, 6)
    return width & 0x3FFF, height & 0x3FFF


def _vp8l_size(body: bytes) -> tuple[int, int]:
    (bits,) = struct.unpack_from("<I", body, 1)
    return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1


_WEBP_SIZES = {b"VP8X": _vp8x_size, b"VP8 ": _vp8_size, b"VP8L": _vp8l_size}


# ---------------------------------------------------------------- AVIF, HEIC: boxes in boxes (ISO/IEC 14496-12)


def _read_heic(data: bytes, layout: Layout) -> None:
    _Boxes(data, layout)
    layout.shown = data


def _read_avif(data: bytes, layout: Layout) -> None:
    """Shown is the still picture that is always there, not the film, and how large its parts really are is known."""
    boxes = _Boxes(data, layout)
    coded = list(_av1_sequences(boxes.items(b"av01")))
    layout.deep = any(profile > 0 for profile, _, _ in coded)
    layout.coded_size = max((width for _, width, _ in coded), default=0), max((high for _, _, high in coded), default=0)
    layout.shown = boxes.shown()


class _Boxes:
    """The items of an AVIF or HEIC: what each is, and its bytes. The layout gets its end and its EXIF from them."""

    def __init__(self, data: bytes, layout: Layout) -> None:
        self._data = data
        self._kinds: dict[int, bytes] = {}
        self._extents: dict[int, list[tuple[int, int]]] = {}
        self._renamed: dict[int, bytes] = {}
        self._left_bytes = 2 * len(data)  # items lie beside each other, not upon each other a thousand times
        for kind, body, layout.end in self._boxes(0, len(data)):
            if kind == b"ftyp" and data[body : body + 4] == b"avis":
                self._renamed[body] = b"avif"  # libavif then takes the still picture
            elif kind == b"moov":
                layout.animated = True
            elif kind == b"meta":
                self._read_meta(body + 4, layout.end)
        blocks = (item[4 + int.from_bytes(item[:4], "big") :] for item in self.items(b"Exif"))
        layout.exif = next(blocks, b"")

    def items(self, kind: bytes) -> Iterator[bytes]:
        """The bytes of each item of this kind."""
        for number in (number for number, its_kind in self._kinds.items() if its_kind == kind):
            yield b"".join(self._data[begins:ends] for begins, ends in self._extents.get(number, ()))

    def shown(self) -> bytes:
        """All bytes, except that EXIF goes by a name that means nothing, and a film by that of a picture."""
        pieces: list[bytes | memoryview] = []
        at = 0
        for renamed, name in sorted(self._renamed.items()):
            pieces += [memoryview(self._data)[at:renamed], name]
            at = renamed + 4
        return b"".join([*pieces, memoryview(self._data)[at:]])

    def _boxes(self, at: int, end: int) -> Iterator[tuple[bytes, int, int]]:
        """Kind, begin of the body and end of each box, until something is no box."""
        for _ in range(MOST_PARTS):
            if at + 8 > end:
                return
            length, kind = struct.unpack_from(">I4s", self._data, at)
            body = at + (16 if length == 1 else 8)
            if length == 1:
                length = int.from_bytes(self._data[at + 8 : body], "big")
            at = at + length if length else end
            if not body <= at <= end:
                return
            yield kind, body, at
        raise _Endless

    def _read_meta(self, at: int, end: int) -> None:
        found = {kind: (body, ends) for kind, body, ends in self._boxes(at, end)}
        for kind, read_box in ((b"iinf", self._read_kinds), (b"iloc", self._read_extents)):
            if kind in found:
                read_box(*found[kind], found.get(b"idat", (0, 0))[0])

    def _read_kinds(self, at: int, end: int, _idat: int) -> None:
        for _, body, _ in self._boxes(at + (8 if self._data[at] else 6), end):
            named = body + (10 if self._data[body] > 2 else 8)
            kind = self._data[named : named + 4]
            self._kinds[int.from_bytes(self._data[body + 4 : named - 2], "big")] = kind
            if kind == b"Exif":
                self._renamed[named] = b"free"

    def _read_extents(self, at: int, _end: int, idat: int) -> None:
        """Where each item's bytes are: its extents, from the start of all or of the box `idat`."""
        take = _Taker(self._data, at)
        version, _flags = take(1), take(3)
        (offset, length), (base, index) = divmod(take(1), 16), divmod(take(1), 16)
        wide, left = 2 if version < 2 else 4, MOST_PARTS
        for _ in range(take(wide)):
            number, method, _reference = take(wide), take(2) & 15 if version else 0, take(2)
            begins = take(base) + (idat if method == 1 else 0)
            extents = self._extents.setdefault(number, [])
            for _ in range(take(2)):
                take(index if version else 0)
                extent, size = begins + take(offset), take(length)
                ends = min(extent + size if size else len(self._data), len(self._data))
                extents.append((extent, ends))
                self._left_bytes -= max(0, ends - extent)
                left -= 1
                if min(left, self._left_bytes) < 0:
                    raise _Endless


class _Taker:
    """Whole numbers of so many bytes, one after the other. Raises ValueError where there are no more."""

    def __init__(self, data: bytes, at: int) -> None:
        self._data, self._at = data, at

    def __call__(self, size: int) -> int:
        self._at += size
        if self._at > len(self._data):
            raise ValueError("cut off")
        return int.from_bytes(self._data[self._at - size : self._at], "big")


# ---------------------------------------------------------------- AV1 (AV1 Bitstream & Decoding Process, 5.3 to 5.5)


def _av1_sequences(items: Iterable[bytes]) -> Iterator[tuple[int, int, int]]:
    """Profile, width and height of each sequence. A header may say anything else: 256 Mpx in 3 KB called 64 x 64 px
    were decoded before somebody compared.
    """
    left = MOST_PARTS
    for coded in items:
        at = 0
        while at < len(coded):
            if left == 0:
                raise _Endless
            left -= 1
            header = coded[at]
            at += 2 if header & 4 else 1
            size = len(coded) - at
            if header & 2:
                size, at = _leb128(coded, at)
            if header >> 3 & 15 == 1:
                yield _av1_sequence(coded[at : at + 256])
            at += size


def _leb128(coded: bytes, at: int) -> tuple[int, int]:
    value = 0
    for place in range(8):
        value |= (coded[at + place] & 127) << (7 * place)
        if coded[at + place] < 128:
            return value, at + place + 1
    raise ValueError("no length")


def _av1_sequence(header: bytes) -> tuple[int, int, int]:
    bits, at = "".join(f"{byte:08b}" for byte in header), 0

    def take(count: int) -> int:
        nonlocal at
        at += count
        return int(bits[at - count : at], 2)

    profile, _still, reduced = take(3), take(1), take(1)
    if reduced:
        take(5)
    elif take(1):
        raise ValueError("a photo has no timing")
    else:
        delays = take(1)
        for _ in range(take(5) + 1):
            take(12)
            if take(5) > 7:
                take(1)
            if delays and take(1):
                take(4)
    wide, high = take(4) + 1, take(4) + 1
    return profile, take(wide) + 1, take(high) + 1


_READERS = {
    "jpeg": _read_jpeg,
    "png": _read_png,
    "webp": _read_webp,
    "avif": _read_avif,
    "heic": _read_heic,
}
