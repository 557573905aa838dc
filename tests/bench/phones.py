"""The phones of the benchmark, in a process of their own: bodies encoded beforehand, connections kept alive.

What is measured is from the first byte sent until the last answer is whole. Answers are read as JSON only afterwards; a
batch that was not applied ends the benchmark, because a figure for something else would be worth nothing.
"""

from __future__ import annotations

import http.client
import json
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from urllib.parse import urlsplit

from tests.bench.day import BATCH, PER_PATROL, Days, Sender

#: How long one answer may take before the benchmark gives up, s.
PATIENCE_S = 120.0


@dataclass(frozen=True)
class Pushed:
    """How long it took, and what became of it. `latencies_s` of the batches."""

    incidents: int
    seconds: float
    latencies_s: list[float]

    @property
    def rate(self) -> float:
        """Incidents per second; the patrols they hang on are not counted."""
        return self.incidents / self.seconds


def sign_in(server: str, senders: Sequence[Sender], password: str) -> dict[str, str]:
    """An access token for each installation."""
    tokens = {}
    for sender in senders:
        who = {"username": sender.username, "password": password, "install": sender.install}
        answer = ask(server, "POST", "/api/v1/auth/login", json.dumps(who).encode())
        tokens[sender.install] = json.loads(answer)["access_token"]
    return tokens


def ask(server: str, method: str, path: str, body: bytes | None = None, token: str = "") -> bytes:
    """The body of a good answer on a connection of its own."""
    with closing(http.client.HTTPConnection(urlsplit(server).netloc, timeout=PATIENCE_S)) as connection:
        return _asked(connection, method, path, body, token)


def _asked(connection: http.client.HTTPConnection, method: str, path: str, body: bytes | None, token: str) -> bytes:
    headers = {"Content-Type": "application/json", "Authorization": f"Bearer {token}"}
    packed = {"Content-Encoding": "gzip"} if body and body[:2] == b"\x1f\x8b" else {}
    connection.request(method, path, body, headers | packed)
    response = connection.getresponse()
    content = response.read()
    if response.status != 200:
        raise RuntimeError(f"{method} {path}: {response.status} {content[:500]!r}")
    return content


def push(
    server: str, tokens: dict[str, str], days: Sequence[Days], numbers: range, *, replayed: bool = False
) -> Pushed:
    """These batches of every phone, each phone on its own connection, all at once."""
    bodies = [[each.body(number) for number in numbers] for each in days]
    pushed, answers = _send(server, [tokens[each.sender.install] for each in days], bodies)
    _check(answers, replayed=replayed)
    return pushed


def _send(server: str, tokens: Sequence[str], bodies: Sequence[Sequence[bytes]]) -> tuple[Pushed, list[bytes]]:
    answers: list[bytes] = []
    latencies_s: list[float] = []
    start = threading.Barrier(len(bodies) + 1)

    def phone(token: str, batches: Sequence[bytes]) -> None:
        with closing(http.client.HTTPConnection(urlsplit(server).netloc, timeout=PATIENCE_S)) as connection:
            connection.connect()
            start.wait()
            for body in batches:
                began = time.perf_counter()
                answers.append(_asked(connection, "POST", "/api/v1/sync/batches", body, token))
                latencies_s.append(time.perf_counter() - began)

    with ThreadPoolExecutor(len(bodies)) as pool:
        phones = [pool.submit(phone, token, batches) for token, batches in zip(tokens, bodies, strict=True)]
        start.wait()
        began = time.perf_counter()
        for each in phones:
            each.result()
        seconds = time.perf_counter() - began
    return Pushed(BATCH * sum(map(len, bodies)), seconds, latencies_s), answers


def _check(answers: Sequence[bytes], *, replayed: bool) -> None:
    results = [result for answer in answers for result in json.loads(answer)["results"]]
    became = Counter((result["outcome"], result["replayed"]) for result in results)
    if set(became) != {("applied", replayed)} or len(results) != len(answers) * (BATCH + BATCH // PER_PATROL):
        raise RuntimeError(f"not every operation was applied: {became}")


def page(server: str, token: str, path: str, times: int) -> list[float]:
    """How long each of so many requests took, in s, on one connection; the first, which warms up, is left out."""
    with closing(http.client.HTTPConnection(urlsplit(server).netloc, timeout=PATIENCE_S)) as connection:
        return timed(lambda: _asked(connection, "GET", path, None, token), times)


def timed(work: Callable[[], object], times: int) -> list[float]:
    """How long each of so many runs took, in s; one that warms up is left out."""
    found = []
    for _ in range(times + 1):
        began = time.perf_counter()
        work()
        found.append(time.perf_counter() - began)
    return found[1:]


def download(server: str, token: str, path: str) -> tuple[int, int, float, float]:
    """Lines and bytes of a stream, and the seconds until its first byte and until its end."""
    lines, size, first_s = 0, 0, 0.0
    with closing(http.client.HTTPConnection(urlsplit(server).netloc, timeout=PATIENCE_S)) as connection:
        began = time.perf_counter()
        connection.request("GET", path, headers={"Authorization": f"Bearer {token}"})
        response = connection.getresponse()
        while piece := response.read1(1 << 20):
            first_s = first_s or time.perf_counter() - began
            lines, size = lines + piece.count(b"\n"), size + len(piece)
        if response.status != 200:
            raise RuntimeError(f"GET {path}: {response.status}")
        return lines, size, first_s, time.perf_counter() - began
