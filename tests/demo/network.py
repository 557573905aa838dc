"""A bad network between phones and the server: every trouble it can make, none of it by chance.

`BadNetwork` listens on 127.0.0.1 and hands on whatever comes, both ways, as it comes. It knows where requests begin and
end (HTTP/1.1 with `Content-Length`), so that a **plan** can say what befalls each: a sequence of `Trouble`s, one per
request; `weather` makes one from a seed. After the plan's end the network is fine. A phone that asks one thing after
another has the same story with the same seed. Besides, the line itself may be cut after every so many bytes of bodies,
whatever request they belong to.
"""

from __future__ import annotations

import itertools
import random
import select
import socket
import struct
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from types import TracebackType

#: How long nothing may move on a connection, s: a hung test helps nobody.
TIMEOUT_S = 60.0
#: Connections served at once; one more waits in the queue of the system.
CONNECTIONS = 16
PIECE_BYTES = 32 * 1024
#: What may be under way on a line and is lost when it is cut, bytes; the system doubles it.
UNDER_WAY_BYTES = 32 * 1024
#: SO_LINGER for 0 s: closing is a reset.
AT_ONCE = struct.pack("ii", 1, 0)


@dataclass(frozen=True)
class Trouble:
    """What befalls one request and its answer. Counted in bytes from the start of either; `None` lets all through.

    `silent_after` so many bytes of the request nothing moves any more, and nothing is closed. `repeats` is for requests
    that say `Connection: close`.
    """

    cut_request_after: int | None = None
    cut_answer_after: int | None = None
    silent_after: int | None = None
    repeats: int = 0
    delay_s: float = 0.0


FINE = Trouble()
#: The server handled the request; the phone never hears of it.
SWALLOWED = Trouble(cut_answer_after=0)
#: The way sends the request twice, as OkHttp does when a connection dies; the phone gets the last answer.
REPEATED = Trouble(repeats=1)
#: A request is cut somewhere in its first so many bytes, early ones as likely as late ones on a scale of doublings.
CUT_WITHIN_BITS = 18


def weather(seed: str, badness: float) -> Iterator[Trouble]:
    """Troubles without end: that share of requests fares badly, in ways that follow from the seed."""
    dice = random.Random(seed)
    while True:
        kinds = (
            Trouble(cut_request_after=int(2 ** dice.uniform(0, CUT_WITHIN_BITS))),
            Trouble(cut_answer_after=dice.randrange(400)),
            SWALLOWED,
            REPEATED,
            Trouble(delay_s=dice.uniform(0.05, 0.2)),
        )
        trouble = dice.choice(kinds)
        yield trouble if dice.random() < badness else FINE


@dataclass
class Seen:
    """A request that somebody began to send, and how much of its body left the phone, arrived or not."""

    method: str
    path: str
    body_bytes: int = 0


class BadNetwork:
    """A listener on 127.0.0.1 in front of `server` (host, port); use it as a context.

    `cut_every_bytes`: the connection that carries every so manieth byte of a body, of all connections together, is cut
    right behind it. A cut is a reset if `reset`, else both ends are told that it is the end. `troubles` counts what was
    done, `seen` is what was asked.
    """

    def __init__(
        self,
        server: tuple[str, int],
        plan: Iterable[Trouble] = (),
        *,
        cut_every_bytes: int | None = None,
        reset: bool = False,
    ) -> None:
        self.server = server
        self.reset = reset
        self.troubles = 0
        self.seen: list[Seen] = []
        self.over = threading.Event()
        self._plan = itertools.chain(plan, itertools.repeat(FINE))
        self._every, self._until_cut = cut_every_bytes, cut_every_bytes or 0
        self._lock = threading.Lock()
        self._free = threading.BoundedSemaphore(CONNECTIONS)
        self._workers: list[threading.Thread] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, UNDER_WAY_BYTES)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._listener.getsockname()[1]}"

    def sent_bytes(self, path: str) -> int:
        """Bytes of bodies that left phones for addresses that begin so, those that were lost on the way included."""
        return sum(seen.body_bytes for seen in self.seen if seen.path.startswith(path))

    def __enter__(self) -> BadNetwork:
        self._accepting = threading.Thread(target=self._accept, daemon=True)
        self._accepting.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, problem: BaseException | None, trace: TracebackType | None
    ) -> None:
        """No new connections; requests under way are finished, silent ones are cut."""
        self.over.set()
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for thread in (self._accepting, *self._workers):
            thread.join(TIMEOUT_S)

    def begin(self, method: str, path: str) -> tuple[Seen, Trouble]:
        """A request has begun: where it is counted, and what the plan has for it."""
        with self._lock:
            self.seen.append(Seen(method, path))
            return self.seen[-1], next(self._plan)

    def befallen(self) -> None:
        with self._lock:
            self.troubles += 1

    def cut_after(self, size: int) -> int | None:
        """Behind how many of these bytes of a body the line is cut, if it is."""
        with self._lock:
            if self._every is None:
                return None
            passing = min(size, self._until_cut)
            self._until_cut -= passing
            if self._until_cut:
                return None
            self._until_cut = self._every
            return passing

    def _accept(self) -> None:
        with suppress(OSError):  # the listener was closed
            while True:
                phone, _ = self._listener.accept()
                self._free.acquire()
                worker = threading.Thread(target=self._serve, args=(phone,), daemon=True)
                self._workers = [thread for thread in self._workers if thread.is_alive()] + [worker]
                worker.start()

    def _serve(self, phone: socket.socket) -> None:
        try:
            with ExitStack() as stack, suppress(OSError):
                _Passage(self, stack.enter_context(phone), stack).carry()
        finally:
            self._free.release()


class _Over(Exception):
    """There is nothing more to carry; `cut` if that was not the wish of either end."""

    def __init__(self, *, cut: bool = False) -> None:
        self.cut = cut


class _Passage:
    """One connection of a phone, and the one to the server that goes with it."""

    def __init__(self, network: BadNetwork, phone: socket.socket, stack: ExitStack) -> None:
        self._network, self._phone, self._stack = network, phone, stack
        self._requests = _Requests()
        self._trouble, self._seen = FINE, Seen("", "")
        self._up = self._down = self._repeated = 0
        self._whole = bytearray()
        self._talking = [phone]
        phone.settimeout(TIMEOUT_S)
        self._connect()

    def carry(self) -> None:
        """Everything goes both ways until one end has enough, or the line is cut."""
        try:
            while True:
                self._step()
        except _Over as over:
            if over.cut:
                self._cut()

    def _step(self) -> None:
        ready, _, _ = select.select([self._server, *self._talking], [], [], TIMEOUT_S)
        if not ready:
            raise _Over
        if self._server in ready:
            self._hand_down(self._server.recv(PIECE_BYTES))
        elif piece := self._phone.recv(PIECE_BYTES):
            self._hand_up(piece)
        else:
            self._talking = []
            self._server.shutdown(socket.SHUT_WR)

    def _connect(self) -> None:
        self._server = self._stack.enter_context(socket.create_connection(self._network.server, TIMEOUT_S))
        self._server.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, UNDER_WAY_BYTES)

    # ------------------------------------------------ up

    def _hand_up(self, piece: bytes) -> None:
        stretches = list(self._requests.read(piece))
        for place, (data, is_body) in enumerate(stretches):
            if not is_body:
                self._begin(data)
            try:
                self._pass_up(data, is_body)
            except _Over:
                self._seen.body_bytes += sum(len(lost) for lost, _ in stretches[place + 1 :])
                raise

    def _begin(self, head: bytes) -> None:
        method, path, _ = head.split(b" ", 2)
        self._seen, self._trouble = self._network.begin(method.decode(), path.decode())
        self._up = self._down = self._repeated = 0
        self._whole.clear()
        if self._trouble.delay_s:
            self._network.befallen()
            time.sleep(self._trouble.delay_s)

    def _pass_up(self, data: bytes, is_body: bool) -> None:
        """These bytes have left the phone; those that the trouble and the line let through go to the server."""
        self._seen.body_bytes += len(data) * is_body
        if self._trouble.repeats:
            self._whole += data
        ends = list(self._ends(data, is_body))
        self._server.sendall(data[: min(ends, default=len(data))])
        self._up += len(data)
        if ends:
            self._network.befallen()
            if self._trouble.silent_after is not None:
                self._network.over.wait()
            raise _Over(cut=True)

    def _ends(self, data: bytes, is_body: bool) -> Iterator[int]:
        """Behind how many of these bytes something ends the passage."""
        for limit in (self._trouble.cut_request_after, self._trouble.silent_after):
            if limit is not None and limit < self._up + len(data):
                yield limit - self._up
        if is_body and (cut := self._network.cut_after(len(data))) is not None:
            yield cut

    # ------------------------------------------------ down

    def _hand_down(self, piece: bytes) -> None:
        if self._repeated < self._trouble.repeats:
            self._repeat(piece)
            return
        if not piece:
            raise _Over
        limit = self._trouble.cut_answer_after
        passing = len(piece) if limit is None else max(0, limit - self._down)
        self._phone.sendall(piece[:passing])
        self._down += len(piece)
        if passing < len(piece):
            self._network.befallen()
            raise _Over(cut=True)

    def _repeat(self, piece: bytes) -> None:
        """An answer that nobody hears; at its end the request is sent once more."""
        if piece:
            return
        self._network.befallen()
        self._repeated += 1
        self._server.close()
        self._connect()
        self._server.sendall(self._whole)

    def _cut(self) -> None:
        """Both ends learn that the line is gone. What had left the phone by then is counted."""
        self._phone.setblocking(False)
        with suppress(OSError):
            self._seen.body_bytes += len(self._phone.recv(8 * UNDER_WAY_BYTES))
        for end in (self._phone, self._server):
            if self._network.reset:
                end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, AT_ONCE)
            else:
                with suppress(OSError):
                    end.shutdown(socket.SHUT_RDWR)


class _Requests:
    """Where requests and their bodies begin and end in what comes up a connection."""

    def __init__(self) -> None:
        self._head = bytearray()
        self._body_left = 0

    def read(self, piece: bytes) -> Iterator[tuple[bytes, bool]]:
        """(bytes, whether they are of a body): a head is told when it is whole, a body as it comes."""
        while piece:
            if self._body_left:
                body, piece = piece[: self._body_left], piece[self._body_left :]
                self._body_left -= len(body)
                yield body, True
            else:
                self._head += piece
                head, end, piece = bytes(self._head).partition(b"\r\n\r\n")
                if not end:
                    return
                self._head.clear()
                self._body_left = _content_length(head)
                yield head + end, False


def _content_length(head: bytes) -> int:
    for line in head.split(b"\r\n")[1:]:
        name, _, value = line.partition(b":")
        if name.strip().lower() == b"content-length":
            return int(value)
    return 0
