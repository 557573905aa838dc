"""Where a worker's time goes: one process takes batches as the view does, step by step, then under cProfile."""

from __future__ import annotations

import cProfile
import datetime as dt
import gc
import gzip
import pstats
import time
import uuid
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import orjson
from sqlalchemy import Engine, create_engine, select
from sqlalchemy.orm import Session

from field_api.settings import Settings
from sync import intake, reference, wire
from sync.models import Account, Installation, SignedIn, begin_write, prepare
from tests.bench.day import BATCH, Days, Sender
from tests.sync.days import YARDSTICK

Steps = dict[str, float]


def take(url: str, days: Days, numbers: range) -> None:
    """Prints the time of each step per incident in µs, then the functions that took longest."""
    engine = prepare(create_engine(url))
    who = _phone(engine, days.sender)
    bodies = [days.body(number) for number in numbers]
    _take_all(engine, who, bodies[:2], defaultdict(float))
    gc.freeze()  # as wsgi.py does
    steps: Steps = defaultdict(float)
    _take_all(engine, who, bodies[2 : len(bodies) // 2], steps)
    count = BATCH * (len(bodies) // 2 - 2)
    for name, seconds in steps.items():
        print(f"    {name:20}{seconds / count * 1e6:8.1f} µs")
    print(f"    {'together':20}{sum(steps.values()) / count * 1e6:8.1f} µs")
    profile = cProfile.Profile()
    profile.runcall(_take_all, engine, who, bodies[len(bodies) // 2 :], defaultdict(float))
    pstats.Stats(profile).sort_stats("tottime").print_stats(60)
    pstats.Stats(profile).sort_stats("cumtime").print_stats("sync/", 80)
    again: Steps = defaultdict(float)
    _take_all(engine, who, bodies[2 : len(bodies) // 2], again)
    for name, seconds in again.items():
        print(f"    again: {name:20}{seconds / count * 1e6:8.1f} µs")
    engine.dispose()


def _phone(engine: Engine, sender: Sender) -> SignedIn:
    with Session(engine) as session:
        begin_write(session)
        account = session.scalars(select(Account).where(Account.username == sender.username)).one()
        install = uuid.UUID(sender.install)
        now = dt.datetime.now(dt.UTC)
        session.add(Installation(id=install, account_id=account.id, created_at=now, received=[], unsent=[], next_n=1))
        session.flush()
        who = SignedIn(account.id, account.username, account.role, frozenset({sender.township}), install)
        session.commit()
    return who


def _take_all(engine: Engine, who: SignedIn, bodies: Sequence[bytes], steps: Steps) -> None:
    @contextmanager
    def step(name: str) -> Iterator[None]:
        began = time.perf_counter()
        yield
        steps[name] += time.perf_counter() - began

    for body in bodies:
        with step("unpack"):
            raw = gzip.decompress(body)
        with step("read envelope"):
            envelope = wire.read_envelope(raw)
        with Session(engine) as session:
            with step("snapshot"):
                begin_write(session)
                known = reference.snapshot(session)
            with step("receive"):
                receipt = intake.receive(
                    session,
                    who,
                    envelope,
                    known.lists,
                    known.areas,
                    now=dt.datetime.now(dt.UTC),
                    photo_max_bytes=Settings.photo_max_bytes,
                    likeness=YARDSTICK,
                )
            with step("commit"):
                session.commit()
        with step("answer"):
            orjson.dumps(receipt, option=orjson.OPT_UTC_Z)
