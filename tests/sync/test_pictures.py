"""Photos as they come: of every format, turned, cut off, forged, far too large; and the small pictures made of them."""

from __future__ import annotations

import io
import struct
import subprocess
import sys
import time
import zipfile
import zlib
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageChops

from sync.containers import MOST_SCANS
from sync.pictures import (
    HEIC_HELD,
    LIGHT_BYTES,
    MOST_BYTES,
    MOST_PHOTO_BYTES,
    SCREEN_PX,
    THUMB_PX,
    Facts,
    develop,
    look,
)
from sync.problems import PhotoNotShown
from tests.builders_photos import ENCODERS, encoded, exif_of, photo, scene
from tests.house.source import ROOT

FORMATS = sorted(ENCODERS)
RED, GREEN, BLUE, WHITE = (220, 20, 20), (20, 200, 20), (20, 20, 220), (255, 255, 255)
#: How the pixels lie in the file that EXIF's orientation says to turn.
LYING = {
    1: None,
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_90,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_270,
}


def seen(data: bytes) -> Facts:
    return look(io.BytesIO(data))


def opened(jpeg: bytes | None) -> Image.Image:
    assert jpeg is not None
    picture = Image.open(io.BytesIO(jpeg))
    picture.load()
    return picture


def developed(data: bytes, longest_px: int = SCREEN_PX) -> Image.Image:
    return opened(develop(io.BytesIO(data), longest_px))


def like(pixel: Any, colour: tuple[int, int, int], within: int = 40) -> bool:
    return all(abs(part - wanted) <= within for part, wanted in zip(pixel, colour, strict=True))


def not_shown(data: bytes) -> bool:
    with pytest.raises(PhotoNotShown):
        develop(io.BytesIO(data), SCREEN_PX)
    return True


# ---------------------------------------------------------------- what is seen


@pytest.mark.parametrize("format", FORMATS)
def test_a_photo_of_every_format_is_seen_for_what_it_is(format: str) -> None:
    facts = seen(photo(640, 480, format=format))
    assert (facts.format, facts.width_px, facts.height_px, facts.flags) == (format, 640, 480, ())
    assert opened(facts.thumb).size == (THUMB_PX, 240)
    assert len(facts.dhash or "") == 16


@pytest.mark.parametrize("format", FORMATS)
def test_its_exif_is_read_in_every_format(format: str) -> None:
    told = {"wall": "2026:11:20 09:12:40", "zone": "+08:00", "lon": 120.51, "lat": 30.18, "error_m": 5}
    facts = seen(photo(format=format, make="HUAWEI", model="ALN-AL00", software="演示 1.0", **told))
    assert facts.taken_at is not None
    assert (facts.taken_at.isoformat(), facts.taken_how) == ("2026-11-20T01:12:40+00:00", "zone")
    assert (facts.lon, facts.lat, facts.error_m) == (pytest.approx(120.51), pytest.approx(30.18), 5)
    assert facts.camera == "HUAWEI ALN-AL00"
    assert facts.flags == ()


def test_one_saved_long_after_it_was_taken_was_edited() -> None:
    assert seen(photo(wall="2026:11:20 09:12:40", saved="2026:11:20 11:00:00")).flags == ("edited",)


def quarters() -> Image.Image:
    picture = Image.new("RGB", (120, 80), RED)
    picture.paste(GREEN, (60, 0, 120, 40))
    picture.paste(BLUE, (0, 40, 60, 80))
    picture.paste(WHITE, (60, 40, 120, 80))
    return picture


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize("orientation", LYING)
def test_pictures_are_upright_however_the_phone_was_held(format: str, orientation: int) -> None:
    lying = LYING[orientation]
    stored = quarters() if lying is None else quarters().transpose(lying)
    data = encoded(stored, format, exif=exif_of(orientation=orientation))
    facts = seen(data)
    assert (facts.width_px, facts.height_px) == (120, 80)
    for picture in (opened(facts.thumb), developed(data)):
        assert picture.size == (120, 80)
        corners = [picture.getpixel(at) for at in ((20, 15), (100, 15), (20, 65), (100, 65))]
        assert all(like(*pair) for pair in zip(corners, (RED, GREEN, BLUE, WHITE), strict=True)), corners


def test_one_jpeg_with_another_behind_it_is_a_photo_like_others() -> None:
    """Phones put a preview, a depth map or the dark half of a night picture behind it (CIPA DC-007)."""
    file = io.BytesIO()
    scene(640, 480).save(file, "MPO", save_all=True, append_images=[scene(640, 480, seed=2)])
    with Image.open(file) as pillows:
        assert pillows.format == "MPO"
    facts = seen(file.getvalue())
    assert (facts.format, facts.flags) == ("jpeg", ())
    assert facts.dhash == seen(photo(640, 480)).dhash


# ---------------------------------------------------------------- small pictures


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize(
    ("size", "thumb", "screen"),
    [
        ((2000, 1500), (320, 240), (1280, 960)),
        ((1000, 1500), (213, 320), (853, 1280)),
        ((320, 200), (320, 200), (320, 200)),
        ((3000, 4), (320, 1), (1280, 2)),
        ((1, 1), (1, 1), (1, 1)),
    ],
)
def test_small_pictures_keep_their_shape_and_are_never_larger(
    format: str, size: tuple[int, int], thumb: tuple[int, int], screen: tuple[int, int]
) -> None:
    data = encoded(scene(*size), format)
    found = [opened(seen(data).thumb).size, developed(data).size]
    for side, wanted in zip(found[0] + found[1], thumb + screen, strict=True):
        assert abs(side - wanted) <= 1
    assert max(found[0]) <= THUMB_PX
    assert max(found[1]) <= SCREEN_PX


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize("longest_px", [THUMB_PX, SCREEN_PX])
def test_a_small_picture_shows_the_same_as_the_photo(format: str, longest_px: int) -> None:
    wanted = scene(1600, 1200)
    small = developed(encoded(wanted, format), longest_px)
    wanted = wanted.resize(small.size, Image.Resampling.BOX)
    apart = ImageChops.difference(small, wanted).resize((1, 1), Image.Resampling.BOX).getpixel((0, 0))
    assert isinstance(apart, tuple)
    assert max(apart) < 6


@pytest.mark.parametrize("format", FORMATS)
def test_small_pictures_say_nothing_but_their_pixels(format: str) -> None:
    profile = b"a colour profile" * 40
    exif = exif_of(orientation=6, lon=120.51, lat=30.18, model="ALN-AL00", software="secret")
    data = encoded(scene(640, 480), format, exif=exif, icc_profile=profile)
    for jpeg in (seen(data).thumb, develop(io.BytesIO(data), SCREEN_PX)):
        assert jpeg is not None
        picture = opened(jpeg)
        assert picture.info.keys() <= {"jfif", "jfif_version", "jfif_unit", "jfif_density"}
        assert b"Exif" not in jpeg
        assert b"ALN-AL00" not in jpeg


def grey_16(value: int) -> Image.Image:
    return Image.new("I;16", (60, 40), value * 257)


@pytest.mark.parametrize(
    ("format", "picture", "shown"),
    [
        ("png", Image.new("RGBA", (60, 40), (255, 0, 0, 0)), WHITE),
        ("webp", Image.new("RGBA", (60, 40), (255, 0, 0, 0)), WHITE),
        ("avif", Image.new("RGBA", (60, 40), (255, 0, 0, 0)), WHITE),
        ("heic", Image.new("RGBA", (60, 40), (255, 0, 0, 0)), WHITE),
        ("png", Image.new("RGBA", (60, 40), (*BLUE, 128)), (138, 138, 238)),
        ("png", Image.new("LA", (60, 40), (90, 255)), (90, 90, 90)),
        ("png", Image.new("L", (60, 40), 90), (90, 90, 90)),
        ("png", Image.new("1", (60, 40), 1), WHITE),
        ("png", Image.new("RGB", (60, 40), BLUE).quantize(4), BLUE),
        ("png", grey_16(90), (90, 90, 90)),
        ("jpeg", Image.new("L", (60, 40), 90), (90, 90, 90)),
        ("jpeg", Image.new("CMYK", (60, 40), (0, 255, 255, 0)), (255, 0, 0)),
    ],
)
def test_other_pixels_than_colours_are_shown_too(
    format: str, picture: Image.Image, shown: tuple[int, int, int]
) -> None:
    data = encoded(picture, format)
    assert seen(data).flags == ()
    for small in (developed(data), opened(seen(data).thumb)):
        assert small.mode == "RGB"
        assert like(small.getpixel((30, 20)), shown, within=12)


@pytest.mark.parametrize("mode", ["P", "L", "RGB"])
def test_one_colour_that_stands_for_none_shows_white(mode: str) -> None:
    picture = Image.new("RGB", (60, 40), BLUE)
    picture.paste(RED, (0, 0, 30, 40))
    transparent: Any = {"P": 0, "L": picture.convert("L").getpixel((40, 5)), "RGB": BLUE}[mode]
    if mode == "P":
        picture = picture.quantize(2)
        transparent = picture.getpixel((40, 5))
    small = developed(encoded(picture.convert(mode), "png", transparency=transparent))
    assert like(small.getpixel((50, 20)), WHITE)
    assert not like(small.getpixel((10, 20)), WHITE)


# ---------------------------------------------------------------- likeness


def apart(one: str | None, other: str | None) -> int:
    assert one is not None
    assert other is not None
    return (int(one, 16) ^ int(other, 16)).bit_count()


def test_a_hash_says_where_it_gets_brighter() -> None:
    brighter = Image.linear_gradient("L").rotate(90).convert("RGB")
    assert seen(encoded(brighter, "png")).dhash == "f" * 16
    assert seen(encoded(brighter.transpose(Image.Transpose.FLIP_LEFT_RIGHT), "png")).dhash == "0" * 16


@pytest.mark.parametrize("seed", range(4))
def test_a_hash_is_the_pictures_not_the_files(seed: int) -> None:
    wanted = seen(photo(1600, 1200, seed=seed)).dhash
    again = [encoded(scene(1600, 1200, seed), format) for format in FORMATS]
    again += [
        encoded(scene(1600, 1200, seed), "jpeg", quality=30),
        encoded(scene(1600, 1200, seed).resize((800, 600)), "jpeg"),
    ]
    turned = scene(1600, 1200, seed).transpose(Image.Transpose.ROTATE_90)
    again.append(encoded(turned, "jpeg", exif=exif_of(orientation=6)))
    assert max(apart(wanted, seen(data).dhash) for data in again) <= 4


def test_hashes_of_different_pictures_differ() -> None:
    hashes = [seen(photo(640, 480, seed=seed)).dhash for seed in range(20)]
    assert min(apart(one, other) for at, one in enumerate(hashes) for other in hashes[:at]) >= 10


# ---------------------------------------------------------------- broken


def ends_of(data: bytes, format: str) -> int:
    """From how many bytes on the picture is all there: behind it there are only marks of its end."""
    return len(data) - {"jpeg": 2, "png": 16}.get(format, 1)


@pytest.mark.parametrize("format", FORMATS)
def test_a_photo_that_was_cut_off_anywhere_is_undecodable(format: str) -> None:
    data = photo(160, 120, format=format, wall="2026:11:20 09:12:40", orientation=6)
    assert seen(data).flags == ()
    whole = ends_of(data, format)
    for size in (*range(0, whole, max(1, whole // 60)), whole - 1):
        facts = seen(data[:size])
        assert facts.flags == ("undecodable",), size
        assert (facts.thumb, facts.dhash) == (None, None)
    assert not_shown(data[: whole // 2])


def test_what_stands_before_the_cut_is_still_told() -> None:
    data = photo(640, 480, wall="2026:11:20 09:12:40", orientation=6)
    facts = seen(data[: len(data) // 2])
    assert (facts.format, facts.width_px, facts.height_px, facts.taken_how) == ("jpeg", 480, 640, "assumed")


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\xff",
        b"\xff\xd8\xff",
        b"the bytes of a photo\n",
        b"GIF89a" + bytes(100),
        b"%PDF-1.7\n",
        b"PK\x03\x04" + bytes(60),
    ],
)
def test_what_is_no_photo_is_undecodable_and_nothing_else(data: bytes) -> None:
    facts = seen(data)
    assert facts == Facts(format="jpeg" if data[:2] == b"\xff\xd8" else None, flags=("undecodable",))
    assert not_shown(data)


def gif() -> bytes:
    file = io.BytesIO()
    scene(60, 40).save(file, "GIF")
    return file.getvalue()


def tiff() -> bytes:
    file = io.BytesIO()
    scene(60, 40).save(file, "TIFF")
    return file.getvalue()


@pytest.mark.parametrize("make", [gif, tiff])
def test_formats_that_no_phone_takes_photos_in_meet_no_decoder(make: Callable[[], bytes]) -> None:
    assert seen(make()) == Facts(flags=("undecodable",))


SMALL = {format: photo(48, 32, format=format, wall="2026:11:20 09:12:40", lon=120.5, lat=30.1) for format in FORMATS}
MAGIC = {format: data[:32] for format, data in SMALL.items()}


def sound(data: bytes) -> None:
    """Nothing is raised, and what is told can be kept."""
    facts = seen(data)
    assert facts.thumb is None or opened(facts.thumb).format == "JPEG"
    assert (facts.thumb is None) == (facts.dhash is None) == bool({"undecodable", "too-costly"} & {*facts.flags})
    assert set(facts.flags) <= {"undecodable", "too-costly", "animated", "polyglot", "edited"}
    try:
        develop(io.BytesIO(data), SCREEN_PX)
    except PhotoNotShown:
        assert facts.thumb is None
    else:
        assert facts.thumb is not None


@pytest.mark.parametrize("format", FORMATS)
def test_bytes_changed_anywhere_never_raise(format: str) -> None:
    data = SMALL[format]

    @settings(max_examples=120, deadline=None)
    @given(st.lists(st.tuples(st.integers(0, len(data) - 1), st.integers(0, 255)), min_size=1, max_size=8))
    def change(changes: list[tuple[int, int]]) -> None:
        changed = bytearray(data)
        for at, byte in changes:
            changed[at] = byte
        sound(bytes(changed))

    change()


@settings(max_examples=300, deadline=None)
@given(st.sampled_from([b"", *MAGIC.values(), b"\xff\xd8\xff"]), st.binary(max_size=300))
def test_bytes_by_chance_never_raise(head: bytes, rest: bytes) -> None:
    sound(head + rest)


@settings(max_examples=150, deadline=None)
@given(st.sampled_from(FORMATS), st.integers(0, 2000), st.integers(0, 2000), st.binary(max_size=40))
def test_pieces_taken_out_or_put_in_never_raise(format: str, at: int, length: int, piece: bytes) -> None:
    data = SMALL[format]
    at %= len(data)
    sound(data[:at] + piece + data[at + length % 40 :])


class Away(io.BytesIO):
    """A store that is away."""

    def read(self, size: int | None = -1, /) -> bytes:
        raise OSError("the store is away")


def test_a_store_that_is_away_is_no_flaw_of_the_photo() -> None:
    with pytest.raises(OSError, match="away"):
        look(Away(photo()))
    assert seen(photo()).flags == ()  # and nobody waits for the place it had


def test_heic_without_its_decoder_still_tells_its_time() -> None:
    script = (
        "import sys, io; sys.modules['pillow_heif'] = None\n"
        "from sync.pictures import look\n"
        "facts = look(io.BytesIO(sys.stdin.buffer.read()))\n"
        "print(facts.format, *facts.flags, facts.taken_how)"
    )
    run = [sys.executable, "-W", "error", "-c", script]
    done = subprocess.run(run, input=SMALL["heic"], capture_output=True, cwd=ROOT, check=True)
    assert done.stdout.split() == [b"heic", b"undecodable", b"assumed"]


# ---------------------------------------------------------------- several frames, something else


def moving(format: str) -> bytes:
    file = io.BytesIO()
    frames = [Image.new("RGB", (64, 48), colour) for colour in (RED, GREEN, BLUE)]
    frames[0].save(file, ENCODERS[format], save_all=True, append_images=frames[1:], duration=100, lossless=True)
    return file.getvalue()


@pytest.mark.parametrize("format", ["png", "webp", "avif"])
def test_of_several_frames_the_first_is_shown(format: str) -> None:
    data = moving(format)
    facts = seen(data)
    assert (facts.format, facts.flags) == (format, ("animated",))
    assert like(opened(facts.thumb).getpixel((30, 20)), RED)
    assert like(developed(data).getpixel((30, 20)), RED)


def archive() -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as packed:
        packed.writestr("a.txt", "something else")
    return file.getvalue()


def mp4() -> bytes:
    return (
        struct.pack(">I4s4sI4s", 20, b"ftyp", b"mp42", 0, b"isom")
        + struct.pack(">I4s", 70_008, b"mdat")
        + bytes(70_000)
    )


def commented(data: bytes, text: bytes) -> bytes:
    """A JPEG with a comment right at its start."""
    return data[:2] + b"\xff\xfe" + struct.pack(">H", len(text) + 2) + text + data[2:]


@pytest.mark.parametrize(
    "data",
    [
        photo() + archive(),
        photo() + archive() + bytes(500),
        photo(format="png") + archive(),
        photo(format="webp") + archive(),
        photo(format="avif") + archive(),
        photo(format="heic") + archive(),
        photo() + mp4() + archive(),
        commented(photo(), b"%PDF-1.7"),
        commented(photo(), b"<?php system($_GET['x']); ?>"),
        commented(photo(), b"<!DocType HTML><title>x</title>"),
        commented(photo(), b"<SCRIPT src=x>"),
        photo() + b"\n<html><body>",
        photo() + b"<?PHP echo 1;" + bytes(200_000),
        photo() + bytes(200_000) + b"<script>",
        photo() + b"Rar!\x1a\x07\x01\x00" + bytes(200_000),
        photo() + b"7z\xbc\xaf\x27\x1c" + bytes(200_000),
        photo() + b"\x7fELF\x02\x01\x01" + bytes(200_000),
        photo() + b"MZ" + bytes(76) + b"This program cannot be run in DOS mode.",
    ],
)
def test_a_photo_that_is_also_something_else_is_told_and_shown(data: bytes) -> None:
    facts = seen(data)
    assert facts.flags == ("polyglot",)
    assert facts.thumb is not None


def multi_picture() -> bytes:
    file = io.BytesIO()
    scene(96, 64).save(file, "MPO", save_all=True, append_images=[scene(96, 64, seed=2)])
    return file.getvalue()


def xmp() -> bytes:
    packet = '<?xpacket begin="" id="W5M0"?><x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF></rdf:RDF></x:xmpmeta>'
    return encoded(scene(96, 64), "jpeg", xmp=packet.encode())


@pytest.mark.parametrize(
    "data",
    [
        multi_picture(),
        photo() + mp4(),
        photo(format="heic") + struct.pack(">I4s", 8 + len(mp4()), b"mpvd") + mp4(),
        photo() + bytes(100) + b"\x00\x00\x01\x0a\x0e\x00\x00\x00Image_UTC_Data1763600000000SEFH\x6b\x00\x00\x00SEFT",
        photo() + bytes(40_000),
        photo() + b"PK\x05\x06" + bytes(10),
        xmp(),
        commented(photo(), "拍摄于 <萧山区> PK MZ 100%".encode()),
    ],
)
def test_what_phones_put_behind_or_into_a_photo_is_nothing_else(data: bytes) -> None:
    assert seen(data).flags == ()


# ---------------------------------------------------------------- bombs


def png(width: int, height: int, *chunks: tuple[bytes, bytes], depth: int = 8, colour: int = 0) -> bytes:
    """A PNG as its chunks say, empty or not."""
    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    parts = [(b"IHDR", header), *chunks, (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body)) for kind, body in parts
    )


def blank(width: int, height: int, channels: int = 1) -> bytes:
    """Rows of zeros for a PNG, packed."""
    packer, row = zlib.compressobj(1), bytes(1 + width * channels)
    return b"".join([*(packer.compress(row) for _ in range(height)), packer.flush()])


def webp_of(width: int, height: int) -> bytes:
    body = struct.pack("<B3x", 0) + (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little")
    small = photo(format="webp")[12:]
    return b"RIFF" + struct.pack("<I", 22 + len(small)) + b"WEBPVP8X" + struct.pack("<I", 10) + body + small


def jpeg_of(width: int, height: int, *, progressive: bool = False) -> bytes:
    data = encoded(scene(64, 48), "jpeg", progressive=progressive)
    at = data.index(b"\xff\xc2" if progressive else b"\xff\xc0") + 5
    return data[:at] + struct.pack(">HH", height, width) + data[at + 4 :]


def avif_of(width: int, height: int) -> bytes:
    data = photo(format="avif")
    at = data.index(b"ispe") + 8
    return data[:at] + struct.pack(">II", width, height) + data[at + 8 :]


@pytest.mark.parametrize(
    ("data", "width_px", "height_px"),
    [
        (png(9_400, 9_400, (b"IDAT", blank(9_400, 9_400))), 9_400, 9_400),
        (png(2**31 - 1, 2**31 - 1, (b"IDAT", b"")), 2**31 - 1, 2**31 - 1),
        (png(100_000, 20, (b"IDAT", blank(100_000, 20))), 100_000, 20),
        (webp_of(16_383, 16_383), 16_383, 16_383),
        (webp_of(4_000, 3_000), 4_000, 3_000),
        (jpeg_of(65_500, 65_500), 65_500, 65_500),
        (jpeg_of(16_000, 16_000), 16_000, 16_000),
        (jpeg_of(9_000, 9_000, progressive=True), 9_000, 9_000),
        (avif_of(8_000, 6_000), 8_000, 6_000),
    ],
)
def test_what_would_cost_too_much_is_measured_and_left_alone(data: bytes, width_px: int, height_px: int) -> None:
    begins = time.process_time()
    facts = seen(data)
    assert (facts.width_px, facts.height_px, facts.flags) == (width_px, height_px, ("too-costly",))
    assert facts.thumb is None
    assert not_shown(data)
    assert time.process_time() - begins < 1


def test_a_photo_as_large_as_no_phone_makes_them_is_not_even_read() -> None:
    class Endless(io.BytesIO):
        def read(self, size: int | None = -1, /) -> bytes:
            assert size == 64, "read as a whole"
            return super().read(size)

        def seek(self, offset: int, whence: int = 0, /) -> int:
            return MOST_PHOTO_BYTES + 1 if whence == io.SEEK_END else super().seek(offset, whence)

    assert look(Endless(photo())) == Facts(format="jpeg", flags=("too-costly",))


def endless_scans() -> bytes:
    """A progressive JPEG whose last scan comes again and again."""
    data = encoded(scene(640, 480), "jpeg", progressive=True)
    last = data.rindex(b"\xff\xda")
    return data[:last] + data[last:-2] * (MOST_SCANS + 10) + b"\xff\xd9"


def separate_scans(width: int, height: int) -> bytes:
    """A JPEG that is not progressive, but whose first scan has one colour only: libjpeg holds it whole."""
    data = jpeg_of(width, height)
    at = data.index(b"\xff\xda")
    return data[:at] + b"\xff\xda\x00\x08\x01\x01\x00\x00\x3f\x00" + data[at + 14 :]


@pytest.mark.parametrize("data", [endless_scans(), separate_scans(8_000, 8_000)])
def test_a_jpeg_that_comes_in_too_many_passes_is_too_costly(data: bytes) -> None:
    assert seen(data).flags == ("too-costly",)


def test_an_avif_that_is_larger_than_it_says_is_not_decoded() -> None:
    huge = encoded(Image.new("RGB", (2_000, 2_000)), "avif")
    at = huge.index(b"ispe") + 8
    assert huge[at : at + 8] == struct.pack(">II", 2_000, 2_000)
    assert seen(huge).flags == ()
    assert seen(huge[:at] + struct.pack(">II", 64, 64) + huge[at + 8 :]).flags == ("undecodable",)


def box(kind: bytes, *parts: bytes) -> bytes:
    body = b"".join(parts)
    return struct.pack(">I4s", 8 + len(body), kind) + body


def items_upon_items(format: str, kind: bytes) -> bytes:
    """One item that is the whole photo, nine hundred times over."""
    extents = struct.pack(">II", 0, 4_000_000) * 900
    named = box(b"infe", b"\2\0\0\0", struct.pack(">HH", 1, 0), kind, b"\0")
    places = box(b"iloc", bytes(4), b"\x44\0", struct.pack(">HHHH", 1, 1, 0, 900), extents)
    meta = box(b"meta", bytes(4), box(b"iinf", bytes(4), b"\0\1", named), places)
    return box(b"ftyp", format.encode(), bytes(4), b"mif1") + meta + box(b"mdat", bytes(4_000_000))


@pytest.mark.parametrize("format", ["avif", "heic"])
@pytest.mark.parametrize("kind", [b"Exif", b"av01"])
def test_items_that_lie_upon_each_other_are_not_put_together(format: str, kind: bytes) -> None:
    data = items_upon_items(format, kind)
    begins = time.process_time()
    assert seen(data).flags == ("too-costly",)
    assert time.process_time() - begins < 1


def test_items_full_of_headers_are_not_read_to_the_end() -> None:
    units = b"\x0a\0" * 900 + b"\x12\0" * 50  # sequence headers, each of which may be 256 bytes long
    named = [box(b"infe", b"\2\0\0\0", struct.pack(">HH", n, 0), b"av01\0") for n in range(500)]
    places = [struct.pack(">HHHII", n, 0, 1, len(units) * n, len(units)) for n in range(500)]
    items = box(b"iloc", bytes(4), b"\x44\0", struct.pack(">H", 500), *places)
    meta = box(b"meta", bytes(4), box(b"iinf", bytes(4), struct.pack(">H", 500), *named), items)
    head = box(b"ftyp", b"avif", bytes(4), b"mif1") + meta
    head = head.replace(b"".join(places), b"".join(_moved(place, len(head) + 8) for place in places))
    begins = time.process_time()
    assert seen(head + box(b"mdat", units * 500)).flags == ("too-costly",)
    assert time.process_time() - begins < 1


def _moved(place: bytes, by: int) -> bytes:
    *which, begins, size = struct.unpack(">HHHII", place)
    return struct.pack(">HHHII", *which, begins + by, size)


TEXT = b"Comment\0\0" + zlib.compress(bytes(3_000_000), 9)
MANY_TAGS = b"II*\0\x08\0\0\0\xff\xff" + b"".join(struct.pack("<HHII", tag, 2, 60_000, 8) for tag in range(5_000))


@pytest.mark.parametrize(
    "data",
    [
        png(64, 64, *[(b"zTXt", TEXT)] * 40, (b"IDAT", blank(64, 64))),
        png(64, 64, (b"iCCP", b"p\0\0" + zlib.compress(bytes(9_000_000), 9)), (b"IDAT", blank(64, 64))),
        png(64, 64, (b"eXIf", MANY_TAGS * 20), (b"IDAT", blank(64, 64))),
        png(64, 64, (b"acTL", bytes(3)), (b"IDAT", blank(64, 64))),
        encoded(scene(96, 64), "webp", exif=MANY_TAGS),
        encoded(scene(96, 64), "jpeg", exif=b"Exif\0\0" + MANY_TAGS[:60_000]),
        photo()[:2] + b"\xff\xe1\x00\x10Exif\0\0II*\0\x08\0\0\0" * 600 + photo()[2:],
        photo()[:2] + b"\xff\xe2\xff\xffICC_PROFILE\0\1\xff".ljust(65_537, b"x") * 200 + photo()[2:],
    ],
)
def test_what_else_a_photo_carries_costs_nothing_and_hides_nothing(data: bytes) -> None:
    begins = time.process_time()
    facts = seen(data)
    assert facts.flags == ()
    assert facts.thumb is not None
    assert time.process_time() - begins < 1


def test_broken_exif_does_not_hide_the_picture() -> None:
    for format in FORMATS:
        whole = photo(64, 48, format=format, wall="2026:11:20 09:12:40")
        for byte_order in (b"II*\0", b"MM\0*"):
            broken = whole.replace(byte_order, b"what")
            facts = seen(broken)
            assert (facts.flags, facts.taken_at) == ((), None) if broken != whole else (facts.flags == ())


@pytest.mark.parametrize(
    "data",
    [
        photo()[:2] + b"\xff\xe1\x00\x10Exif\0\0II*\0\x08\0\0\0" * 1_000_000 + photo()[2:],
        photo()[:2] + b"\xff\xfe\x00\x02" * 4_000_000 + photo()[2:],
        png(64, 64, *[(b"tEXt", b"a\0b")] * 30_000, (b"IDAT", blank(64, 64))),
        png(64, 64, *[(b"IDAT", b"")] * 30_000),
        b"RIFF" + struct.pack("<I", 8_000_004) + b"WEBP" + b"junk\0\0\0\0" * 1_000_000,
        photo(format="avif")[:32] + b"\0\0\0\x08free" * 1_000_000,
        photo(format="heic")[:24] + b"\0\0\0\x08free" * 1_000_000,
    ],
)
def test_more_parts_than_photos_have_are_not_counted_to_the_end(data: bytes) -> None:
    begins = time.process_time()
    assert {"too-costly", "undecodable"} & {*seen(data).flags}
    assert time.process_time() - begins < 1


# ---------------------------------------------------------------- memory

#: What a small picture and the libraries themselves take besides, MB.
SLACK_MB = 15
#: Elsewhere a process does not tell what it took at most: `ru_maxrss` begins with what its parent took.
on_linux = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
#: Looks at what comes, in so many threads, and tells by how much memory grew, in MB.
WEIGH = """
import io, re, sys, threading
from sync.pictures import develop, look
from sync.problems import PhotoNotShown
def most_kb(): return int(re.search(r"VmHWM:\\s+([0-9]+) kB", open("/proc/self/status").read())[1])
def work(data):
    print(*look(io.BytesIO(data)).flags)
    try: develop(io.BytesIO(data), 1280)
    except PhotoNotShown: print("not shown")
data = sys.stdin.buffer.read()
look(io.BytesIO(b""))
before = most_kb()
threads = [threading.Thread(target=work, args=(data,)) for _ in range(int(sys.argv[1]))]
[thread.start() for thread in threads]
[thread.join() for thread in threads]
print(round((most_kb() - before) * 1.024 / 1000))
"""


def weighed(data: bytes, threads: int = 1) -> tuple[set[str], int]:
    """The flags, and by how many MB a process grew that looked at the photo and developed it."""
    run = [sys.executable, "-c", WEIGH, str(threads)]
    done = subprocess.run(run, input=data, capture_output=True, cwd=ROOT, check=True, text=False)
    *told, grown = done.stdout.decode().split("\n")[:-1]
    return {*told} - {""}, int(grown)


def largest(format: str) -> bytes:
    """Among the costliest that are decoded: what phones make, or as much as is allowed."""
    if format == "jpeg":
        return encoded(Image.new("L", (16_320, 12_240), 90), "jpeg")
    width, height = {
        "progressive": (5_200, 3_900),
        "png": (6_700, 5_000),
        "webp": (3_264, 2_448),
        "avif": (4_032, 3_024),
        "heic": (4_032, 3_024),
    }[format]
    picture = scene(width // 8, height // 8).resize((width, height), Image.Resampling.NEAREST)
    if format == "progressive":
        return encoded(picture, "jpeg", progressive=True, subsampling=0)
    return encoded(picture, format, **({"method": 0} if format == "webp" else {}))


@on_linux
@pytest.mark.parametrize(
    ("format", "promised_bytes"),
    [
        ("jpeg", LIGHT_BYTES),
        ("progressive", MOST_BYTES),
        ("png", MOST_BYTES),
        ("webp", MOST_BYTES),
        ("avif", MOST_BYTES),
        ("heic", HEIC_HELD * 4_032 * 3_024),
    ],
)
def test_the_largest_photos_that_are_decoded_take_no_more_memory_than_promised(
    format: str, promised_bytes: float
) -> None:
    flags, grown_mb = weighed(largest(format))
    assert flags == set()
    assert grown_mb < promised_bytes / 1e6 + SLACK_MB


@on_linux
def test_many_at_once_take_no_more_memory_than_one_of_the_largest() -> None:
    flags, grown_mb = weighed(largest("webp"), threads=4)
    assert flags == set()
    assert grown_mb < MOST_BYTES / 1e6 + SLACK_MB
