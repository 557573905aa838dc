"""A photo is sent, and seconds later there is a picture of it and its record says what the photo says."""

from __future__ import annotations

import hashlib
import io
import time

import pytest
from PIL import Image
from sqlalchemy.orm import Session

from sync.evidence import verify
from sync.models import begin_read
from sync.store import derivative_key
from tests.journeys.ground import UPLOADS, Ground
from tests.sync.days import batch, incident, patrol

GPS = 0x8825
WITHIN_S = 30


def taken_at_west_lake(n: int) -> bytes:
    """A JPEG whose EXIF says that it was taken some 35 km from 瓜沥镇."""
    exif, file = Image.Exif(), io.BytesIO()
    exif[GPS] = {1: "N", 2: (30.0, 14.0, 24.0), 3: "E", 4: (120.0, 8.0, 24.0)}
    Image.new("RGB", (1600, 1200), (n * 20, 90, 160)).save(file, "JPEG", exif=exif)
    return file.getvalue()


@pytest.mark.parametrize("ground", ["gunicorn on postgresql"], indirect=True)
def test_a_photo_is_seen_and_compared_seconds_after_it_was_sent(ground: Ground) -> None:
    phone, out = ground.handset(), patrol()
    photos = {hashlib.sha256(content).hexdigest(): content for content in map(taken_at_west_lake, range(8))}
    seen = [
        incident(out, photos=[{"sha256": sha256, "bytes": len(content), "type": "image/jpeg"}])
        for sha256, content in photos.items()
    ]
    assert set(phone.push(batch(phone.who, out, *seen)).json["photos_needed"]) == set(photos)
    for sha256, content in photos.items():
        assert phone.ask("PUT", f"{UPLOADS}/{sha256}", content, content_type="image/jpeg").status == 200
    until = time.monotonic() + WITHIN_S
    while len(remarked := phone.ask("GET", "/api/v1/incidents?note=photo-elsewhere").json["items"]) < len(photos):
        assert time.monotonic() < until, f"{len(remarked)} of {len(photos)} within {WITHIN_S} s"
        time.sleep(0.2)
    for sha256 in photos:
        assert (ground.folder / "photos" / derivative_key(sha256, "thumb")).is_file()
        for size in ("thumb", "screen"):
            answer = phone.ask("GET", f"/api/v1/photos/{sha256}?size={size}")
            assert (answer.status, answer.headers.get_content_type()) == (200, "image/jpeg")
    with Session(ground.engine) as session:
        begin_read(session)
        assert list(verify(session))
