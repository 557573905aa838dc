"""The phones of the benchmark, sending photos: several at once, as fast as they can or as slowly as a bad line.

Each phone has a connection of its own, kept alive. A photo counts when its last answer came. Whatever is answered
otherwise than expected ends the benchmark.
"""

from __future__ import annotations

import asyncio
import base64
import http.client
import queue
import socket
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from contextlib import closing, suppress
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Protocol
from urllib.parse import SplitResult, urlsplit

from tests.bench import album
from tests.bench.album import Camera, Photo
from tests.bench.receiver import DIGEST_BYTES, LENGTH_BYTES

#: How long one answer may take before the benchmark gives up, s.
PATIENCE_S = 300.0
#: What PROTOCOL.md §12 recommends for a bad network.
CHUNK_BYTES = 256 * 1024
#: A slow phone's line: so many bytes go out at once, so many per second.
PACKET_BYTES, SLOW_BYTES_PER_S = 2_048, 20_480
#: So long after the first slow phone the last one begins, s.
SPREAD_S = 5.0
#: A reader waits no longer for a page, s.
LONGEST_READ_S = 30.0
NOTHING: Mapping[str, str] = MappingProxyType({})


@dataclass(frozen=True)
class Album:
    """Which photos to send: they are made in the process that sends them, before anything is measured."""

    camera: Camera
    name: str
    count: int


@dataclass(frozen=True)
class Sent:
    """What was sent, how long all of it took, and each photo of it. `latencies_s` of photos."""

    bytes: int
    seconds: float
    latencies_s: list[float]

    @property
    def mb_per_s(self) -> float:
        return self.bytes / self.seconds / 1e6


class Line(Protocol):
    """A connection of a phone."""

    def send(self, photo: Photo) -> None:
        """The photo is there."""

    def close(self) -> None: ...


class BareLine:
    """To the floor: the length, the bytes, the digest back."""

    def __init__(self, server: str) -> None:
        address = urlsplit(server)
        self._socket = socket.create_connection((address.hostname, address.port or 0), PATIENCE_S)

    def send(self, photo: Photo) -> None:
        self._socket.sendall(len(photo).to_bytes(LENGTH_BYTES, "big"))
        for piece in photo.cut(0, len(photo)):
            self._socket.sendall(piece)
        if self._socket.recv(DIGEST_BYTES, socket.MSG_WAITALL).hex() != photo.sha256:
            raise RuntimeError("the floor received something else")

    def close(self) -> None:
        self._socket.close()


@dataclass
class PhoneLine:
    """To the server, by `PUT`, or resumably in chunks."""

    server: str
    token: str
    chunk_bytes: int | None = None
    connection: http.client.HTTPConnection = field(init=False)
    sent_bytes: int = 0
    answers: int = 0

    def __post_init__(self) -> None:
        self.connection = http.client.HTTPConnection(urlsplit(self.server).netloc, timeout=PATIENCE_S)
        self.connection.connect()

    def send(self, photo: Photo) -> None:
        if self.chunk_bytes is None:
            self._ask(200, "PUT", f"/api/v1/uploads/{photo.sha256}", photo.cut(0, len(photo)), len(photo))
            return
        name = base64.b64encode(photo.sha256.encode()).decode()
        told = {"Upload-Length": str(len(photo)), "Upload-Metadata": f"sha256 {name}"}
        self._ask(201, "POST", "/api/v1/uploads", (), 0, told)
        for start in range(0, len(photo), self.chunk_bytes):
            stop = min(start + self.chunk_bytes, len(photo))
            told = {"Upload-Offset": str(start), "Content-Type": "application/offset+octet-stream"}
            path = f"/api/v1/uploads/{photo.sha256}"
            self._ask(204, "PATCH", path, photo.cut(start, stop), stop - start, told)

    def close(self) -> None:
        self.connection.close()

    def _ask(
        self,
        status: int,
        method: str,
        path: str,
        body: Iterable[memoryview],
        size: int,
        told: Mapping[str, str] = NOTHING,
    ) -> None:
        headers = {"Authorization": f"Bearer {self.token}", "Tus-Resumable": "1.0.0", "Content-Length": str(size)}
        self.connection.request(method, path, self._packets(body), {**headers, **told})
        response = self.connection.getresponse()
        content = response.read()
        if response.status != status:
            raise RuntimeError(f"{method} {path}: {response.status} {content[:500]!r}")
        self.answers += 1

    def _packets(self, body: Iterable[memoryview]) -> Iterable[memoryview]:
        return body


class SlowLine(PhoneLine):
    """The same on a line of `SLOW_BYTES_PER_S`."""

    def _packets(self, body: Iterable[memoryview]) -> Iterator[memoryview]:
        for piece in body:
            for start in range(0, len(piece), PACKET_BYTES):
                time.sleep(PACKET_BYTES / SLOW_BYTES_PER_S)
                yield piece[start : start + PACKET_BYTES]
                self.sent_bytes += len(piece[start : start + PACKET_BYTES])


def send_bare(server: str, which: Album, phones: int) -> Sent:
    """The photos to the floor, by so many phones at once."""
    return _send(which, [lambda: BareLine(server)] * phones)


def send(server: str, tokens: Sequence[str], which: Album, chunk_bytes: int | None = None) -> Sent:
    """The photos to the server, by as many phones at once as there are tokens."""
    return _send(which, [lambda token=token: PhoneLine(server, token, chunk_bytes) for token in tokens])  # type: ignore[misc]


def _send(which: Album, phones: Sequence[Callable[[], Line]]) -> Sent:
    waiting: queue.SimpleQueue[Photo | None] = queue.SimpleQueue()
    for photo in [*album.photos(which.camera, which.name, which.count), *[None] * len(phones)]:
        waiting.put(photo)
    latencies_s: list[float] = []
    sizes: list[int] = []
    start = threading.Barrier(len(phones) + 1)

    def phone(connect: Callable[[], Line]) -> None:
        with closing(connect()) as line:
            start.wait()
            while photo := waiting.get():
                began = time.perf_counter()
                line.send(photo)
                latencies_s.append(time.perf_counter() - began)
                sizes.append(len(photo))

    with ThreadPoolExecutor(len(phones)) as pool:
        sending = [pool.submit(phone, connect) for connect in phones]
        start.wait()
        began = time.perf_counter()
        for each in sending:
            each.result()
        seconds = time.perf_counter() - began
    return Sent(sum(sizes), seconds, latencies_s)


def send_slowly(
    server: str, tokens: Sequence[str], which: Album, chunk_bytes: int | None, seconds: float
) -> tuple[int, int]:
    """Bytes that went out and answers that came, each photo sent by a phone of its own on a slow line.

    The phones begin one after the other; after so many seconds all hang up, most of them in the middle.
    """
    photos = album.photos(which.camera, which.name, which.count)
    lines = [SlowLine(server, tokens[number % len(tokens)], chunk_bytes) for number in range(len(photos))]
    until = time.monotonic() + seconds
    with ThreadPoolExecutor(len(photos)) as pool:
        sending = []
        for line, photo in zip(lines, photos, strict=True):
            sending.append(pool.submit(line.send, photo))
            time.sleep(SPREAD_S / len(photos))
        wait(sending, until - time.monotonic(), FIRST_EXCEPTION)
        failed = [each for each in sending if each.done() and each.exception()]
        for line in lines:
            with suppress(OSError):
                line.connection.sock.shutdown(socket.SHUT_RDWR)
    for each in failed:
        each.result()
    return sum(line.sent_bytes for line in lines), sum(line.answers for line in lines)


async def _read(address: SplitResult, request: bytes) -> float:
    """How long an answer took, in s, on a connection of its own."""
    began = time.perf_counter()
    try:
        async with asyncio.timeout(LONGEST_READ_S):
            reader, writer = await asyncio.open_connection(address.hostname, address.port)
            writer.write(request)
            answer = await reader.read()
            writer.close()
    except TimeoutError:
        return LONGEST_READ_S
    if not answer.startswith(b"HTTP/1.1 200 "):
        raise RuntimeError(f"{request[:100]!r}: {answer[:500]!r}")
    return time.perf_counter() - began


def read_steadily(server: str, token: str, path: str, per_s: int, seconds: float) -> list[float]:
    """How long each answer took, in s: so many are asked for per second, whether or not those before have come.

    What takes longer than `LONGEST_READ_S` counts as that.
    """
    address = urlsplit(server)
    request = (
        f"GET {path} HTTP/1.1\r\nHost: bench\r\nAuthorization: Bearer {token}\r\nConnection: close\r\n\r\n".encode()
    )

    async def steadily() -> list[float]:
        asked = []
        for _ in range(int(per_s * seconds)):
            asked.append(asyncio.create_task(_read(address, request)))
            await asyncio.sleep(1 / per_s)
        return await asyncio.gather(*asked)

    return asyncio.run(steadily())
