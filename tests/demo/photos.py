"""Photos of the demo: small real JPEGs, drawn, so that they show nobody."""

from __future__ import annotations

import io
from random import Random

from PIL import Image, ImageDraw

SIZE = (320, 240)


def draw(dice: Random) -> bytes:
    """A JPEG of a stall under an awning, by chance a different one each time."""
    picture = Image.new("RGB", SIZE, (dice.randrange(150, 220), 200, 230))
    pen = ImageDraw.Draw(picture)
    pen.rectangle((0, 170, *SIZE), fill=(120, 118, dice.randrange(100, 130)))
    left, top = dice.randrange(20, 140), dice.randrange(60, 110)
    pen.rectangle((left, top + 40, left + 150, 200), fill=_colour(dice))
    pen.polygon([(left - 10, top + 40), (left + 75, top), (left + 160, top + 40)], fill=_colour(dice))
    for _ in range(dice.randrange(8, 20)):
        x, y = dice.randrange(left, left + 140), dice.randrange(130, 190)
        pen.ellipse((x, y, x + 12, y + 12), fill=_colour(dice))
    file = io.BytesIO()
    picture.save(file, "JPEG", quality=80)
    return file.getvalue()


def _colour(dice: Random) -> tuple[int, int, int]:
    return dice.randrange(256), dice.randrange(256), dice.randrange(256)
