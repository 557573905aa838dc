"""A bad network between one phone and the server: every trouble it can make, none of it by chance.

`BadNetwork` listens on 127.0.0.1 and hands each connection's one request on to the server, doing to it what the plan
says. The plan is a sequence of `Trouble`s, one per connection; `weather` makes one from a seed. After the plan's end
the network is fine. A phone uses one connection at a time, so the same seed tells the same story.
"""

from __future__ import annotations

import itertools
import random
import socket
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from types import TracebackType

#: What one request or answer may weigh, bytes, and how long one may take, s: a hung test helps nobody.
MOST_BYTES = 32 * 1024 * 1024
TIMEOUT_S = 60.0
#: Connections served at once; one more waits in the queue of the system.
CONNECTIONS = 16


@dataclass(frozen=True)
class Trouble:
    """What befalls one request and its answer. Counted in bytes from the start of either; `None` lets all through."""

    cut_request_after: int | None = None
    cut_answer_after: int | None = None
    repeats: int = 0
    delay_s: float = 0.0


FINE = Trouble()
#: The server handled the request; the phone never hears of it.
SWALLOWED = Trouble(cut_answer_after=0)
#: The way sends the request twice, as OkHttp does when a connection dies; the phone gets the last answer.
REPEATED = Trouble(repeats=1)


def weather(seed: str, badness: float) -> Iterator[Trouble]:
    """Troubles without end: that share of requests fares badly, in ways that follow from the seed."""
    dice = random.Random(seed)
    while True:
        kinds = (
            Trouble(cut_request_after=dice.randrange(2_000)),
            Trouble(cut_answer_after=dice.randrange(400)),
            SWALLOWED,
            REPEATED,
            Trouble(delay_s=dice.uniform(0.05, 0.2)),
        )
        trouble = dice.choice(kinds)
        yield trouble if dice.random() < badness else FINE


class BadNetwork:
    """A listener on 127.0.0.1 in front of `server` (host, port); use it as a context. `troubles` counts what it did."""

    def __init__(self, server: tuple[str, int], plan: Iterable[Trouble] = ()) -> None:
        self._server = server
        self._plan = itertools.chain(plan, itertools.repeat(FINE))
        self._free = threading.BoundedSemaphore(CONNECTIONS)
        self._workers: list[threading.Thread] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.troubles = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._listener.getsockname()[1]}"

    def __enter__(self) -> BadNetwork:
        self._accepting = threading.Thread(target=self._accept, daemon=True)
        self._accepting.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, problem: BaseException | None, trace: TracebackType | None
    ) -> None:
        """No new connections; those under way are finished."""
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for thread in (self._accepting, *self._workers):
            thread.join(TIMEOUT_S)

    def _accept(self) -> None:
        with suppress(OSError):  # the listener was closed
            while True:
                phone, _ = self._listener.accept()
                self._free.acquire()
                trouble = next(self._plan)
                self.troubles += trouble != FINE
                worker = threading.Thread(target=self._serve, args=(phone, trouble), daemon=True)
                self._workers = [thread for thread in self._workers if thread.is_alive()] + [worker]
                worker.start()

    def _serve(self, phone: socket.socket, trouble: Trouble) -> None:
        try:
            with phone, suppress(OSError):
                phone.settimeout(TIMEOUT_S)
                request = _read_request(phone)
                time.sleep(trouble.delay_s)
                for _ in range(trouble.repeats + 1):
                    answer = self._hand_on(request, trouble.cut_request_after)
                phone.sendall(answer[: trouble.cut_answer_after])
        finally:
            self._free.release()

    def _hand_on(self, request: bytes, cut_after: int | None) -> bytes:
        """The server's whole answer; nothing, when the request was cut before its end."""
        with socket.create_connection(self._server, TIMEOUT_S) as server:
            server.sendall(request[:cut_after])
            return b"" if cut_after is not None and cut_after < len(request) else _read_to_end(server)


def _read_request(phone: socket.socket) -> bytes:
    """One HTTP request with its body, by its Content-Length."""
    request = bytearray()
    while b"\r\n\r\n" not in request and (piece := phone.recv(65_536)):
        request += piece
    head, _, body = bytes(request).partition(b"\r\n\r\n")
    missing = min(_content_length(head), MOST_BYTES) - len(body)
    while missing > 0 and (piece := phone.recv(min(missing, 65_536))):
        request += piece
        missing -= len(piece)
    return bytes(request)


def _content_length(head: bytes) -> int:
    for line in head.split(b"\r\n")[1:]:
        name, _, value = line.partition(b":")
        if name.strip().lower() == b"content-length":
            return int(value)
    return 0


def _read_to_end(server: socket.socket) -> bytes:
    answer = bytearray()
    while len(answer) < MOST_BYTES and (piece := server.recv(65_536)):
        answer += piece
    return bytes(answer)
