"""How fast maps are fed: pages and single features over HTTP with an access token, beside the rows by the driver alone.

The goals are those of the project, with two workers: 60 pages of 1,000 a second, 400 of 10, 1,000 single features; the
400th page within 1.3 times of the first.
"""

from __future__ import annotations

import datetime as dt
import http.client
import json
import threading
import time
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from urllib.parse import urlsplit

from sqlalchemy import create_engine, select
from sqlalchemy.orm import Session

from sync import accounts
from sync.models import Account, SignedIn, begin_write, prepare
from tests.bench import floors
from tests.bench.places import READER, Gunicorn, cpu_s, serving
from tests.bench.run import Bench, backends, tell

ITEMS = "/ogc/collections/incidents/items"
#: Connections at once, how long each measurement lasts, s, and how deep the deep page is.
AT_ONCE, LASTS_S, DEEP = 4, 5.0, 400
#: What is asked for before anything is measured, s.
WARM_UP_S = 1.0
METRES = "http://www.opengis.net/def/crs/EPSG/0/4549"


@dataclass(frozen=True)
class Asked:
    """How many answers came, how large they were, and how long it took."""

    answers: int
    size_bytes: int
    seconds: float


def features(bench: Bench) -> None:
    """Features of many incidents, for maps."""
    token = _token(bench.filled)
    with closing(floors.connect(bench.filled)) as connection:
        began = time.perf_counter()
        newest = "SELECT * FROM incidents ORDER BY occurred_at DESC, id DESC LIMIT 60000"
        count = sum(1 for _ in connection.execute(newest))
        tell("floor, the rows by the driver", f"{count / (time.perf_counter() - began):,.0f} rows/s")
    with serving(bench.filled) as server:
        deep, ids = bench.run(turn, server.address, token, DEEP)
        for name, paths in {
            "1,000 to a page": [f"{ITEMS}?limit=1000"],
            f"the same, page {DEEP}": [deep],
            "the same, EPSG:4549": [f"{ITEMS}?limit=1000&crs={METRES}"],
            "10 to a page": [f"{ITEMS}?limit=10"],
            "one feature": [f"{ITEMS}/{id}" for id in ids],
        }.items():
            _tell(bench, server, name, token, paths)
        tell("worker memory", f"at most {server.peak_mb():,.0f} MB")


def _tell(bench: Bench, server: Gunicorn, name: str, token: str, paths: Sequence[str]) -> None:
    bench.run(ask, server.address, token, paths, WARM_UP_S)
    of_database = backends(bench.filled)
    before_s = server.cpu_s(), cpu_s(of_database)
    asked: Asked = bench.run(ask, server.address, token, paths, LASTS_S)
    after_s = server.cpu_s(), cpu_s(of_database)
    spent = (f"{1000 * (b - a) / asked.answers:,.1f}" for a, b in zip(before_s, after_s, strict=True))
    tell(
        name,
        f"{asked.answers / asked.seconds:,.1f}/s",
        f"{asked.size_bytes / asked.seconds / 1e6:,.1f} MB/s",
        "computing {} + {} ms".format(*spent),
    )


def _token(url: str) -> str:
    engine, now = prepare(create_engine(url)), dt.datetime.now(dt.UTC)
    with Session(engine) as session:
        begin_write(session)
        reader = session.scalars(select(Account).where(Account.username == READER.username)).one()
        who = SignedIn(reader.id, reader.username, reader.role, frozenset(), None)
        token, _ = accounts.issue_access_token(session, who, "bench", 1, now=now)
        session.commit()
    engine.dispose()
    return token


def turn(address: str, token: str, pages: int) -> tuple[str, list[str]]:
    """Where the page after so many begins, followed link by link, and the ids of the features before it."""
    path = f"{ITEMS}?limit=1000"
    with closing(http.client.HTTPConnection(urlsplit(address).netloc)) as connection:
        for _ in range(pages - 1):
            told = json.loads(_answer(connection, path, token))
            links = [link["href"] for link in told["links"] if link["rel"] == "next"]
            if not links:
                break
            path = links[0].removeprefix(address)
    return path, [feature["id"] for feature in told["features"]]


def ask(address: str, token: str, paths: Sequence[str], lasts_s: float) -> Asked:
    """These paths again and again on several connections at once."""
    found: list[tuple[int, int]] = []
    began = time.perf_counter()

    def run(turn: int) -> None:
        answers = size = 0
        with closing(http.client.HTTPConnection(urlsplit(address).netloc)) as connection:
            while time.perf_counter() - began < lasts_s:
                size += len(_answer(connection, paths[(turn + AT_ONCE * answers) % len(paths)], token))
                answers += 1
        found.append((answers, size))

    threads = [threading.Thread(target=run, args=(number,)) for number in range(AT_ONCE)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return Asked(sum(a for a, _ in found), sum(s for _, s in found), time.perf_counter() - began)


def _answer(connection: http.client.HTTPConnection, path: str, token: str) -> bytes:
    connection.request("GET", path, headers={"Authorization": f"Bearer {token}", "Accept": "application/geo+json"})
    answer = connection.getresponse()
    content = answer.read()
    if answer.status != 200:
        raise RuntimeError(f"{path}: {answer.status} {content[:500]!r}")
    return content
