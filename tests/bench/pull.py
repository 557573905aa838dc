"""Pulling: everything at first, nothing when nothing has changed, one change; and what the feed costs those who push.

A district as large as can be: all its townships and 5,850 items, 50,000 vendors with four warnings each. A supervisor
of all townships takes everything along, an officer what concerns one township.
"""

from __future__ import annotations

import datetime as dt
import gzip
import http.client
import json
import tempfile
import time
import uuid
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from functools import partial
from itertools import islice
from pathlib import Path
from random import Random
from statistics import median, quantiles
from typing import Any
from urllib.parse import urlencode, urlsplit

from sqlalchemy import Engine, create_engine, select, text
from sqlalchemy.orm import Session

from sync import journal, reference
from sync.journal import Change
from sync.models import Account, Base, Incident, Patrol, Vendor, VendorWarning, begin_write, insert_rows, prepare
from tests.bench import phones
from tests.bench.day import Sender
from tests.bench.places import PASSWORD, add_account, serving
from tests.bench.run import Bench, tell
from tests.demo import demo_list, people

ITEMS, VENDORS, WARNINGS = 5_850, 50_000, 200_000
#: What changes at once, as many as a large batch.
AT_ONCE = 500
#: Changes on a page: what a phone that is in a hurry asks for.
LIMIT = 5_000
#: Requests that find nothing, and changes that are looked for one by one.
EMPTY, SINGLE = 200, 40
#: Pulls before anything is measured: by then each worker has had its share.
WARM_UPS = 4
#: Takes the whole district along.
CHIEF = Sender("bench-chief", "", "", "00000000-0000-4000-8000-000000000016")
PATH = "/api/v1/sync/changes"


# ---------------------------------------------------------------- the district


def district(bench: Bench) -> tuple[str, Engine]:
    """A database with all of it, everything in the feed."""
    url, now = bench.databases.new(), dt.datetime.now(dt.UTC)
    engine = prepare(create_engine(url))
    with Session(engine) as session, tempfile.TemporaryDirectory() as folder:
        demo_list.write(Path(folder), size=ITEMS)
        begin_write(session)
        reference.load(session, reference.read(Path(folder)), now=now)
        session.commit()
        add_account(session, CHIEF.username, "supervisor", sorted(bench.ground.items), now)
        for model, kind, rows in _rows(session, bench, now):
            _store(session, model, kind, rows, now)
        session.execute(text("ANALYZE"))
        session.commit()
    return url, engine


def _rows(session: Session, bench: Bench, now: dt.datetime) -> Iterator[tuple[type[Base], str, Iterator[Any]]]:
    random, townships = Random(4), sorted(bench.ground.items)
    officer = session.scalars(select(Account.id).where(Account.username == bench.senders[0].username)).one()
    ids = [uuid.UUID(int=random.getrandbits(128), version=4) for _ in range(2 * len(townships) + VENDORS)]
    patrols, incidents, vendors = (
        ids[: len(townships)],
        ids[len(townships) : 2 * len(townships)],
        ids[2 * len(townships) :],
    )

    def recorded(of: int, id: uuid.UUID) -> dict[str, Any]:
        return _recorded(id, officer, townships[of % len(townships)], now)

    session.rollback()
    yield Patrol, "patrol", (recorded(n, id) | {"officers": ["bench"]} for n, id in enumerate(patrols))
    of_incident = {"items": [], "measures": [], "parties": []}
    yield (
        Incident,
        "incident",
        (recorded(n, id) | of_incident | {"patrol": patrols[n]} for n, id in enumerate(incidents)),
    )
    yield Vendor, "vendor", (_vendor(id, n, townships[n % len(townships)], now) for n, id in enumerate(vendors))
    yield (
        VendorWarning,
        "warning",
        (
            recorded(n, uuid.UUID(int=random.getrandbits(128), version=4))
            | {"incident": incidents[n % len(townships)], "vendor_id": vendors[n % VENDORS], "step": "education"}
            | {"text": "已告知相关规定，请到指定地点经营", "response": "acknowledged"}
            for n in range(WARNINGS)
        ),
    )


def _recorded(id: uuid.UUID, officer: int, township: str, now: dt.datetime) -> dict[str, Any]:
    return {
        **{"id": id, "version": 1, "officer_id": officer, "install_id": uuid.UUID(CHIEF.install), "received_at": now},
        **{"occurred_at": now, "occurred_error_ms": 180, "occurred_method": "mono", "township_code": township},
        **{"photos": [], "notes": [], "note_codes": []},
    }


def _vendor(id: uuid.UUID, n: int, township: str, now: dt.datetime) -> dict[str, Any]:
    seen = people.vendor(n)
    told = {name: seen.get(name) for name in ("name", "phone", "stall", "plate")}
    return {"id": id, **told, "township_code": township, "created_at": now}


def _store(session: Session, model: type[Base], kind: str, rows: Iterator[Any], now: dt.datetime) -> None:
    while some := list(islice(rows, AT_ONCE)):
        begin_write(session)
        insert_rows(session, model, some)
        changes = [Change(kind, str(row["id"]), [kind, str(row["id"]), 1, "…"], new=True) for row in some]
        journal.record(session, changes, now=now)
        session.commit()


def _touch(engine: Engine, warning: uuid.UUID, now: dt.datetime) -> None:
    """One warning of the district changes."""
    with Session(engine) as session:
        begin_write(session)
        session.get_one(VendorWarning, warning).version += 1
        session.flush()
        journal.record(
            session, [Change("warning", str(warning), ["warning", str(warning), 2, "…"], new=False)], now=now
        )
        session.commit()


# ---------------------------------------------------------------- the phone, in the client's process


@dataclass
class Pulled:
    """What came: changes and pages, bytes on the wire, seconds of each page, the cursor after it."""

    cursor: str | None = None
    changes: int = 0
    size_bytes: int = 0
    seconds: list[float] = field(default_factory=list)


def everything(server: str, token: str) -> Pulled:
    """A whole first pull, one page after the other on one connection."""
    pulled, more = Pulled(), True
    with closing(http.client.HTTPConnection(urlsplit(server).netloc, timeout=phones.PATIENCE_S)) as connection:
        while more:
            began = time.perf_counter()
            status, content = _asked(connection, token, pulled.cursor)
            pulled.seconds.append(time.perf_counter() - began)
            if status != 200:
                raise RuntimeError(f"{status} {content[:500]!r}")
            page = json.loads(gzip.decompress(content) if content[:2] == b"\x1f\x8b" else content)
            more, pulled.cursor = page["more"], page["cursor"]
            pulled.changes += len(page["changes"])
            pulled.size_bytes += len(content)
    return pulled


def nothing(server: str, token: str, cursor: str, *, asking: str) -> list[float]:
    """How long each request took that found nothing, s. `asking`: with the `tag` of the page, or `plain`."""
    found = []
    with closing(http.client.HTTPConnection(urlsplit(server).netloc, timeout=phones.PATIENCE_S)) as connection:
        for _ in range(EMPTY):
            began = time.perf_counter()
            status, _ = _asked(connection, token, cursor, tag=cursor if asking == "tag" else None)
            found.append(time.perf_counter() - began)
            if status != (304 if asking == "tag" else 200):
                raise RuntimeError(f"{status} where nothing has changed")
    return found


def one_page(server: str, token: str, cursor: str) -> tuple[float, int, str]:
    """How long a page took, s, how many changes it had, and its cursor."""
    with closing(http.client.HTTPConnection(urlsplit(server).netloc, timeout=phones.PATIENCE_S)) as connection:
        began = time.perf_counter()
        _, content = _asked(connection, token, cursor)
        seconds = time.perf_counter() - began
    page = json.loads(content)
    return seconds, len(page["changes"]), page["cursor"]


def _asked(
    connection: http.client.HTTPConnection, token: str, cursor: str | None, tag: str | None = None
) -> tuple[int, bytes]:
    query = urlencode({"limit": LIMIT} | ({"cursor": cursor} if cursor else {}))
    headers = {"Authorization": f"Bearer {token}", "Accept-Encoding": "gzip"}
    connection.request("GET", f"{PATH}?{query}", headers=headers | ({"If-None-Match": f'W/"{tag}"'} if tag else {}))
    response = connection.getresponse()
    return response.status, response.read()


# ---------------------------------------------------------------- the parts


def pull(bench: Bench) -> None:
    """First pull, nothing new, one change: of a supervisor of all townships, and of an officer of one."""
    url, engine = district(bench)
    with Session(engine) as session:
        warnings = list(session.scalars(select(VendorWarning.id).limit(SINGLE)))
    with serving(url) as server:
        who = [bench.senders[1], CHIEF]
        officer, chief = bench.run(phones.sign_in, server.address, who, PASSWORD).values()
        for _ in range(WARM_UPS):
            bench.run(everything, server.address, officer)
        before_mb = server.peak_mb()
        for name, token in (("an officer", officer), ("the whole district", chief)):
            _tell_first(name, [bench.run(everything, server.address, token) for _ in range(bench.repeats)])
        tell("worker memory", f"{before_mb:,.0f} to {server.peak_mb():,.0f} MB")
        cursor = bench.run(everything, server.address, chief).cursor
        for asking in ("plain", "tag"):
            waits = bench.run(partial(nothing, asking=asking), server.address, chief, cursor)
            tell(f"nothing new, {asking}", f"median {1000 * median(waits):,.1f} ms", f"p95 {_p95_ms(waits):,.1f} ms")
        single = []
        for warning in warnings:
            _touch(engine, warning, dt.datetime.now(dt.UTC))
            seconds, found, cursor = bench.run(one_page, server.address, chief, cursor)
            if found != 1:
                raise RuntimeError(f"{found} changes where one was made")
            single.append(seconds)
        tell("one change", f"median {1000 * median(single):,.1f} ms", f"p95 {_p95_ms(single):,.1f} ms")
    engine.dispose()


def _tell_first(name: str, pulls: Sequence[Pulled]) -> None:
    changes, seconds = pulls[0].changes, median(sum(pulled.seconds) for pulled in pulls)
    pages_ms = [1000 * each for pulled in pulls for each in pulled.seconds]
    tell(
        f"first pull, {name}",
        f"{changes:,} in {seconds:,.1f} s",
        f"{changes / seconds:,.0f} rows/s",
        f"{pulls[0].size_bytes / 1e6:,.1f} MB packed",
        f"pages {median(pages_ms):,.0f}, worst {max(pages_ms):,.0f} ms",
    )


def _p95_ms(seconds: Sequence[float]) -> float:
    return 1000 * quantiles(seconds, n=20)[-1]


PARTS = (pull,)
