"""The bad network of the tests does what it says, to the byte: what it proves of others stands on that."""

from __future__ import annotations

import http.client
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import closing, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import islice
from urllib.parse import urlsplit

import pytest

from tests.demo.network import FINE, REPEATED, SWALLOWED, BadNetwork, Trouble, weather

BODY = bytes(range(256)) * 1_000
ANSWER = b"this is the answer"


@dataclass
class Heard:
    """What came to the server: the body of each request, as far as it came, and how the line ended."""

    bodies: list[bytes] = field(default_factory=list)
    ends: list[str] = field(default_factory=list)
    done: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(0))

    def wait(self, requests: int = 1) -> None:
        for _ in range(requests):
            assert self.done.acquire(timeout=10)


@pytest.fixture
def heard() -> Heard:
    return Heard()


@pytest.fixture
def server(heard: Heard) -> Iterator[tuple[str, int]]:
    """A server that takes every body and answers the same."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body, end = b"", "whole"
            try:
                while missing := int(self.headers["Content-Length"]) - len(body):
                    if not (piece := self.rfile.read1(missing)):
                        end = "closed"
                        break
                    body += piece
            except ConnectionResetError:
                end = "reset"
            heard.bodies.append(body)
            heard.ends.append(end)
            heard.done.release()
            with suppress(OSError):
                self.send_response(200)
                self.send_header("Content-Length", str(len(ANSWER)))
                self.end_headers()
                self.wfile.write(ANSWER)

        def log_message(self, *_: object) -> None:
            """Says nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as listening:
        thread = threading.Thread(target=listening.serve_forever, args=(0.01,))
        thread.start()
        yield "127.0.0.1", listening.server_port
        listening.shutdown()
        thread.join()


HEAD = "POST {path} HTTP/1.1\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n"


def post(network: BadNetwork, body: bytes = BODY, *, path: str = "/", timeout_s: float = 10) -> bytes | None:
    """The answer to one request on a connection of its own; nothing, when none came, or not a whole one."""
    where, answer = urlsplit(network.url), b""
    with closing(socket.create_connection((where.hostname, where.port), timeout_s)) as line, suppress(OSError):
        with suppress(ConnectionError):
            line.sendall(HEAD.format(path=path, length=len(body)).encode() + body)
        while piece := line.recv(65_536):
            answer += piece
    return ANSWER if answer.endswith(b"\r\n\r\n" + ANSWER) else None


def test_a_fine_network_hands_on_everything(server: tuple[str, int], heard: Heard) -> None:
    with BadNetwork(server) as network:
        assert post(network) == ANSWER
    assert (heard.bodies, network.troubles) == ([BODY], 0)
    assert [(seen.method, seen.path, seen.body_bytes) for seen in network.seen] == [("POST", "/", len(BODY))]


def test_several_requests_on_one_connection_are_told_apart(server: tuple[str, int], heard: Heard) -> None:
    with (
        BadNetwork(server, [FINE, FINE, SWALLOWED]) as network,
        closing(http.client.HTTPConnection(urlsplit(network.url).netloc, timeout=10)) as connection,
    ):
        for size in (10, 70_000):
            connection.request("POST", f"/{size}", BODY[:size])
            assert connection.getresponse().read() == ANSWER
        connection.request("POST", "/lost", BODY[:5])
        with pytest.raises((http.client.HTTPException, OSError)):
            connection.getresponse()
    assert heard.bodies == [BODY[:10], BODY[:70_000], BODY[:5]]
    assert [(seen.path, seen.body_bytes) for seen in network.seen] == [("/10", 10), ("/70000", 70_000), ("/lost", 5)]


@pytest.mark.parametrize("reset", [False, True])
def test_the_line_is_cut_behind_every_so_manieth_byte_of_a_body(
    server: tuple[str, int], heard: Heard, reset: bool
) -> None:
    with BadNetwork(server, cut_every_bytes=100_000, reset=reset) as network:
        answers = [post(network, BODY[:size]) for size in (60_000, 60_000, 60_000, 39_999, 1)]
        heard.wait(5)
    assert answers == [ANSWER, None, ANSWER, ANSWER, None]
    assert [len(body) for body in heard.bodies] == [60_000, 40_000, 60_000, 39_999, 1]
    assert heard.ends == ["whole", "reset" if reset else "closed", "whole", "whole", "whole"]
    assert network.troubles == 2
    assert network.sent_bytes("/") == 60_000 + 60_000 + 60_000 + 39_999 + 1


def test_what_was_lost_under_way_is_counted_but_never_arrives(server: tuple[str, int], heard: Heard) -> None:
    with BadNetwork(server, cut_every_bytes=50_000) as network:
        assert post(network) is None
        heard.wait()
    assert heard.bodies == [BODY[:50_000]]
    assert 50_000 <= network.sent_bytes("/") <= len(BODY)


@pytest.mark.parametrize("cut_after", [0, 10, 200, 100_000, 1_000_000])
def test_a_request_is_cut_where_the_plan_says(server: tuple[str, int], heard: Heard, cut_after: int) -> None:
    body_bytes = cut_after - len(HEAD.format(path="/", length=len(BODY)))
    with BadNetwork(server, [Trouble(cut_request_after=cut_after)]) as network:
        answer = post(network)
        heard.wait(body_bytes > 0)
    assert (answer, network.troubles) == ((ANSWER, 0) if body_bytes > len(BODY) else (None, 1))
    assert [len(body) for body in heard.bodies] == ([min(len(BODY), body_bytes)] if body_bytes > 0 else [])


def test_an_answer_is_swallowed_and_the_request_was_whole(server: tuple[str, int], heard: Heard) -> None:
    with BadNetwork(server, [SWALLOWED, Trouble(cut_answer_after=30)]) as network:
        assert [post(network), post(network), post(network)] == [None, None, ANSWER]
    assert heard.bodies == [BODY] * 3
    assert network.troubles == 2


def test_a_repeated_request_arrives_twice_and_is_answered_once(server: tuple[str, int], heard: Heard) -> None:
    with BadNetwork(server, [REPEATED]) as network:
        assert post(network) == ANSWER
    assert heard.bodies == [BODY] * 2
    assert network.sent_bytes("/") == len(BODY)


def test_a_silent_line_moves_nothing_and_closes_nothing(server: tuple[str, int], heard: Heard) -> None:
    with BadNetwork(server, [Trouble(silent_after=100_000)]) as network:
        began = time.monotonic()
        assert post(network, timeout_s=0.5) is None
        assert time.monotonic() - began >= 0.5
        assert heard.ends == []
        assert post(network, BODY[:3]) == ANSWER
    heard.wait(2)
    assert heard.bodies[0] == BODY[:3]
    assert len(heard.bodies[1]) < 100_000


def test_whoever_hangs_up_is_heard_to_hang_up(server: tuple[str, int], heard: Heard) -> None:
    with BadNetwork(server) as network:
        where = urlsplit(network.url)
        with closing(socket.create_connection((where.hostname, where.port))) as line:
            line.sendall(b"POST / HTTP/1.1\r\nContent-Length: 100\r\n\r\nonly this")
        heard.wait()
    assert (heard.bodies, heard.ends) == ([b"only this"], ["closed"])


def test_the_same_seed_makes_the_same_weather() -> None:
    one, same, other = (list(islice(weather(seed, 0.5), 40)) for seed in ("a", "a", "b"))
    assert one == same != other
    assert FINE in one
    assert set(one) != {FINE}
