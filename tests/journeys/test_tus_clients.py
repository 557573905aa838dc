"""Photos sent by clients that nobody here wrote: tuspy, aiotus and tus-js-client, over a line that is cut all the time.

Each is set as an app would set it. What counts: every photo arrives, once, with its digest, and what left the phone for
it is hardly more than the photo.
"""

from __future__ import annotations

import asyncio
import hashlib
import io
import json
import signal
import subprocess
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any
from urllib.parse import urlsplit

import aiotus
import pytest
from PIL import Image
from sqlalchemy import func, select
from sqlalchemy.orm import Session
from tusclient.client import TusClient
from tusclient.exceptions import TusCommunicationError
from tusclient.uploader import Uploader

from sync.models import Photo, Upload, UploadPart
from sync.store import photo_key
from tests.demo.network import FINE, SWALLOWED, BadNetwork, Trouble
from tests.journeys import node
from tests.journeys.ground import UPLOADS, Ground, Handset

on_postgresql = pytest.mark.parametrize("ground", ["gunicorn on postgresql"], indirect=True)
on_both = pytest.mark.parametrize("ground", ["gunicorn on postgresql", "gunicorn on sqlite"], indirect=True)
CUT_EVERY_BYTES = 2_000_000
#: What may leave the phone for a photo, as a share of it: less than 5 % is sent again.
MOST_SENT = 1.05
#: A client that has not finished by then hangs, s.
PATIENCE_S = 60
#: Every eighth answer gets lost; not the first, which each client treats in its own way.
SOME_ANSWERS_LOST = (*[FINE] * 7, SWALLOWED)

Metadata = dict[str, str]


@dataclass
class Sender:
    """One officer's phone with a photo to send, and all that its clients need."""

    ground: Ground
    handset: Handset
    file: Path
    stack: ExitStack
    chunk_bytes: int = 256 * 1024
    networks: list[BadNetwork] = field(default_factory=list)

    @property
    def sha256(self) -> str:
        return hashlib.sha256(self.file.read_bytes()).hexdigest()

    @property
    def size(self) -> int:
        return self.file.stat().st_size

    @property
    def named(self) -> Metadata:
        """What an app tells that knows this server."""
        return {"filename": "摊位 ü.jpg", "filetype": "image/jpeg", "sha256": self.sha256}

    @property
    def headers(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.handset.token}"}

    def line(self, *plan: Trouble, every: int | None = CUT_EVERY_BYTES, reset: bool = False) -> str:
        """The address to send to, at the end of a line with these troubles."""
        network = BadNetwork(("127.0.0.1", self.handset.port), plan, cut_every_bytes=every, reset=reset)
        self.networks.append(self.stack.enter_context(network))
        return f"{network.url}{UPLOADS}"

    def sent_bytes(self) -> int:
        return sum(network.sent_bytes(UPLOADS) for network in self.networks)

    def has_arrived(self, uploads: int = 1) -> bool:
        """The server has the photo: once, under its digest, with nothing left of the pieces it came in."""
        file = self.ground.folder / "photos" / photo_key(self.sha256)
        assert hashlib.sha256(file.read_bytes()).hexdigest() == self.sha256
        with Session(self.ground.engine) as session:
            photos = session.scalars(select(Photo.size_bytes).where(Photo.sha256 == self.sha256)).all()
            finished = session.scalars(select(Upload.name).where(Upload.sha256 == self.sha256)).all()
            parts = session.scalar(select(func.count()).select_from(UploadPart).where(UploadPart.name.in_(finished)))
        return (photos, len(finished), parts) == ([self.size], uploads, 0)

    def is_all_there(self, url: str) -> bool:
        """Asked for the address that the client was given, the server says that nothing is missing."""
        answer = self.handset.ask("HEAD", urlsplit(url).path, tus_resumable="1.0.0")
        return answer.headers["Upload-Offset"] == answer.headers["Upload-Length"] == str(self.size)


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


@pytest.fixture
def sender(ground: Ground, tmp_path: Path, stack: ExitStack, request: pytest.FixtureRequest) -> Sender:
    """A phone with a photo that no other test has."""
    file = tmp_path / "photo.jpg"
    file.write_bytes(noise(request.node.nodeid))
    return Sender(ground, ground.handset(), file, stack)


def noise(seed: str) -> bytes:
    """A JPEG of nothing but noise, 5.1 MB, another one for each seed."""
    picture = Image.frombytes("RGB", (2_400, 1_800), Random(seed).randbytes(2_400 * 1_800 * 3))
    file = io.BytesIO()
    picture.save(file, "JPEG", quality=95)
    return file.getvalue()


# ---------------------------------------------------------------- the clients, each as its app would use it


def by_tuspy(sender: Sender, line: str, told: Metadata) -> str:
    """tuspy tries each chunk again so often, asking first how far the server is; a creation is the app's to repeat.

    A checksum goes with each chunk of a photo with a name: of one without, nothing could check what is left of a chunk
    that was cut, so all of it would have to come again.
    """
    with sender.file.open("rb") as file:
        uploader = tuspy(sender, line, metadata=told, file_stream=file, upload_checksum="sha256" in told)
        while uploader.url is None:
            with suppress(TusCommunicationError):
                uploader.set_url(uploader.create_url())
        uploader.upload()
        return str(uploader.url)


def tuspy(sender: Sender, line: str, **settings: Any) -> Uploader:
    """What tuspy sends a photo with."""
    usual = {"chunk_size": sender.chunk_bytes, "retries": 10, "retry_delay": 0.2}
    return TusClient(line, headers=sender.headers).uploader(**usual | settings)


def by_aiotus(sender: Sender, line: str, told: Metadata) -> str:
    """aiotus tries the whole again so often, waiting longer each time, without counting what it got done."""
    config = aiotus.RetryConfiguration(retry_attempts=30, max_retry_period_seconds=0.2)
    metadata = {name: value.encode() for name, value in told.items()}

    async def upload() -> str:
        with sender.file.open("rb") as file:
            url = await aiotus.upload(
                line, file, metadata, config=config, headers=sender.headers, chunksize=sender.chunk_bytes
            )
            return str(url)

    return asyncio.run(asyncio.wait_for(upload(), PATIENCE_S))


def by_tus_js(sender: Sender, line: str, told: Metadata, **settings: Any) -> str:
    """tus-js-client tries again after 0, 1, 3 and 5 s, and starts over with that after every chunk that arrived."""
    ended = tus_js_client(sender, line, told, **settings)
    assert ended.returncode == 0, ended.stderr
    return ended.stdout.strip()


def tus_js_client(sender: Sender, line: str, told: Metadata, **settings: Any) -> subprocess.CompletedProcess[str]:
    """upload.mjs, run to its end or death."""
    asked = {"endpoint": line, "file": str(sender.file), "token": sender.handset.token, "chunkSize": sender.chunk_bytes}
    asked |= {"metadata": told, **settings}
    command = ["node", str(node.installed() / "upload.mjs"), json.dumps(asked)]
    return subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_S, check=False)


Client = Callable[[Sender, str, Metadata], str]
CLIENTS: dict[str, Client] = {"tuspy": by_tuspy, "aiotus": by_aiotus, "tus-js-client": by_tus_js}


@pytest.fixture(params=CLIENTS)
def send(request: pytest.FixtureRequest) -> Client:
    """Each client in turn."""
    if request.param == "tus-js-client":
        request.getfixturevalue("tus_js")
    return CLIENTS[request.param]


# ---------------------------------------------------------------- a line that is cut


@on_both
@pytest.mark.parametrize("reset", [False, True], ids=["closed", "reset"])
def test_a_photo_arrives_over_a_line_that_is_cut_every_2_mb(sender: Sender, send: Client, reset: bool) -> None:
    url = send(sender, sender.line(*SOME_ANSWERS_LOST * 20, reset=reset), sender.named)
    assert sender.networks[0].troubles >= 2 + 2
    assert sender.has_arrived()
    assert sender.is_all_there(url)
    assert url.endswith(sender.sha256)
    assert sender.size <= sender.sent_bytes() < sender.size * MOST_SENT


@on_postgresql
@pytest.mark.filterwarnings("ignore:Sending a large body:ResourceWarning")  # of aiohttp, by aiotus
def test_a_photo_sent_in_one_chunk_goes_on_where_it_was_cut(sender: Sender, send: Client) -> None:
    sender.chunk_bytes = sender.size
    send(sender, sender.line(), sender.named)
    assert sender.networks[0].troubles == 2
    assert sender.has_arrived()
    assert sender.sent_bytes() < sender.size * MOST_SENT


@on_postgresql
def test_a_client_that_does_not_name_the_photo_gets_it_there_all_the_same(sender: Sender, send: Client) -> None:
    url = send(sender, sender.line(), {"filename": "IMG_0001.jpg"})
    assert sender.has_arrived()
    assert sender.is_all_there(url)
    assert sender.sent_bytes() < sender.size * MOST_SENT


@on_postgresql
def test_a_creation_whose_answer_was_lost_finds_the_same_upload(sender: Sender, send: Client) -> None:
    send(sender, sender.line(SWALLOWED, SWALLOWED), sender.named)
    assert [seen.method for seen in sender.networks[0].seen[:4]] == [
        "POST",
        "POST",
        "POST",
        "HEAD" if send is by_aiotus else "PATCH",
    ]
    assert sender.has_arrived()
    assert sender.sent_bytes() < sender.size * MOST_SENT


@on_postgresql
def test_the_answer_to_the_last_chunk_may_get_lost(sender: Sender, send: Client) -> None:
    chunks = -(-sender.size // sender.chunk_bytes)
    head = [FINE, *[FINE] * (send is by_aiotus)]
    send(sender, sender.line(*head, *[FINE] * (chunks - 1), SWALLOWED, every=None), sender.named)
    assert sender.networks[0].troubles == 1
    assert sender.has_arrived()
    assert sender.sent_bytes() == sender.size


@on_postgresql
def test_two_phones_of_one_officer_that_send_the_same_photo_at_once_make_it_one(sender: Sender, send: Client) -> None:
    lines = [sender.line(reset=reset) for reset in (False, True)]
    with ThreadPoolExecutor(2) as pool:
        urls = set(pool.map(lambda line: send(sender, line, sender.named), lines))
    assert {url.rpartition("/")[2] for url in urls} == {sender.sha256}
    assert sender.has_arrived()


@on_postgresql
def test_a_photo_that_has_arrived_is_not_sent_again(sender: Sender, send: Client) -> None:
    for _ in range(2):
        send(sender, sender.line(every=None), sender.named)
    assert sender.has_arrived()
    assert sender.sent_bytes() <= sender.size + sender.chunk_bytes


# ---------------------------------------------------------------- an app that was killed


@on_postgresql
@pytest.mark.usefixtures("tus_js")
@pytest.mark.parametrize("dies_after", [0.1, 0.97])
def test_tus_js_goes_on_in_a_new_process_from_the_address_it_stored(sender: Sender, dies_after: float) -> None:
    line, storage = sender.line(), str(sender.file.with_name("urls.json"))
    killed = tus_js_client(sender, line, sender.named, storage=storage, dieAfter=int(sender.size * dies_after))
    assert killed.returncode == -signal.SIGKILL
    by_tus_js(sender, line, sender.named, storage=storage)
    assert [seen.method for seen in sender.networks[0].seen].count("POST") == 1
    assert sender.has_arrived()
    assert sender.sent_bytes() < sender.size * MOST_SENT + sender.chunk_bytes


@on_postgresql
@pytest.mark.usefixtures("tus_js")
def test_tus_js_that_forgot_the_address_finds_its_upload_by_the_photos_name(sender: Sender) -> None:
    line = sender.line(every=None)
    killed = tus_js_client(sender, line, sender.named, dieAfter=sender.size // 2)
    assert killed.returncode == -signal.SIGKILL
    by_tus_js(sender, line, sender.named)
    assert sender.has_arrived()
    assert sender.sent_bytes() < sender.size + 3 * sender.chunk_bytes


@on_postgresql
def test_tuspy_goes_on_from_the_address_its_app_stored(sender: Sender) -> None:
    line = sender.line(*[FINE] * 10, *[Trouble(cut_request_after=0)] * 2, every=None)
    with sender.file.open("rb") as file:
        first = tuspy(sender, line, metadata=sender.named, file_stream=file, retries=1)
        with pytest.raises(TusCommunicationError):
            first.upload()
        tuspy(sender, line, file_stream=file, url=first.url).upload()
    assert sender.has_arrived()
    assert sender.sent_bytes() < sender.size * MOST_SENT
