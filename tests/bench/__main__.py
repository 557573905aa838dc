"""Prints how fast it is, each figure beside its floor of the same run.

python -m tests.bench                                          everything, on both databases
python -m tests.bench push --rows 20000 --database postgresql  one part of it
python -m tests.bench photos --database postgresql             the parts that send photos
"""

from __future__ import annotations

import argparse
import datetime as dt
import multiprocessing
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack, closing
from functools import partial
from itertools import chain
from pathlib import Path
from statistics import median
from typing import Any

from sqlalchemy import create_engine, select
from sqlalchemy.orm import Session

from sync import evidence, patrol_log
from sync.models import Account, SignedIn, begin_read, prepare
from sync.patrol_log import Selection
from tests.bench import costs, files, floors, maps, pages, phones, photos, profile, pull
from tests.bench.day import BATCH, PER_PATROL, Ground, senders
from tests.bench.places import PASSWORD, READER, cpu_s, databases, serving
from tests.bench.run import Bench, backends, rate, ratio, tell
from tests.demo import demo_list

# ---------------------------------------------------------------- the parts


def push(bench: Bench) -> None:
    """First push and replay, into empty tables."""
    numbers = bench.batches(bench.rows)
    pushes, again, bare, indexed = [], [], [], []
    for repeat in range(bench.repeats):
        url, days = bench.databases.new(), bench.days(f"push {repeat}")
        rows = floors.rows(days, numbers)
        bare.append(floors.insert_rate(url, rows))
        indexed.append(floors.insert_rate(url, rows, indexes=floors.INDEXES))
        with serving(url) as server:
            tokens = bench.warm(server)
            of_database = backends(url)
            before_s = server.cpu_s(), cpu_s(of_database)
            pushes.append(bench.run(phones.push, server.address, tokens, days, numbers))
            after_s = server.cpu_s(), cpu_s(of_database)
            again.append(bench.run(partial(phones.push, replayed=True), server.address, tokens, days, numbers))
            memory_mb = server.peak_mb()
        print(f"    {pushes[-1].rate:,.0f}/s, again {again[-1].rate:,.0f}/s, floor {indexed[-1]:,.0f}/s", flush=True)
    rates, replays = [pushed.rate for pushed in pushes], [pushed.rate for pushed in again]
    tell("floor, a table with its indexes", rate(indexed), f"with a key only {rate(bare)}")
    of_floors = f"of the floor {ratio(rates, indexed):.3f}", f"of the other {ratio(rates, bare):.3f}"
    tell("first push", rate(rates), *of_floors)
    tell("replay", rate(replays), f"of the push {ratio(replays, rates):.2f}")
    waits_ms = [1000 * seconds for pushed in pushes for seconds in pushed.latencies_s]
    at_once = f"a batch of {BATCH}, {len(bench.senders)} at once"
    tell(at_once, f"median {median(waits_ms):,.0f} ms", f"worst {max(waits_ms):,.0f} ms")
    workers_us, database_us = (
        1e6 * (after - before) / pushes[-1].incidents for after, before in zip(after_s, before_s, strict=True)
    )
    tell("computing, per incident", f"workers {workers_us:,.0f} µs", f"database {database_us:,.0f} µs")
    tell("worker memory", f"at most {memory_mb:,.0f} MB")


def existing(bench: Bench) -> None:
    """First push, into many existing incidents and into empty tables in turn."""
    numbers, empty, full = bench.batches(bench.rows), [], []
    filled = bench.filled
    for repeat in range(bench.repeats):
        for url, found in ((bench.databases.new(), empty), (filled, full)):
            with serving(url) as server:
                tokens = bench.warm(server)
                days = bench.days(f"existing {repeat}")
                pushed = bench.run(phones.push, server.address, tokens, days, numbers)
            found.append(pushed.rate)
    tell(f"push into {bench.existing:,}", rate(full), f"into none {rate(empty)}", f"ratio {ratio(full, empty):.2f}")


def lists(bench: Bench) -> None:
    """Pages of fifty from many incidents: by hand, by the engine, over HTTP."""
    engine, times = prepare(create_engine(bench.filled)), 9
    sender, classes = bench.senders[0], bench.ground.classes
    item = bench.ground.items[sender.township][3]
    cases = pages.cases(sender.township, sender.username, item, classes[5], dt.datetime.now(dt.UTC))
    with (
        serving(bench.filled) as server,
        closing(floors.connect(bench.filled)) as connection,
        Session(engine) as session,
    ):
        token = bench.run(phones.sign_in, server.address, [READER], PASSWORD)[READER.install]
        who = _reader(session)
        for case in cases:
            hand = phones.timed(pages.by_hand(connection, case), times)
            asked = phones.timed(lambda: _page(session, who, case), times)  # noqa: B023  (called at once)
            http = bench.run(phones.page, server.address, token, case.path, times)
            figures = [1000 * median(found) for found in (hand, asked, http)]
            tell(
                case.name,
                f"by hand {figures[0]:,.1f} ms",
                f"engine {figures[1]:,.1f} ms",
                f"HTTP {figures[2]:,.1f} ms",
                f"engine ratio {figures[1] / figures[0]:.2f}",
            )
    engine.dispose()


def _reader(session: Session) -> SignedIn:
    account = session.scalars(select(Account).where(Account.username == READER.username)).one()
    who = SignedIn(account.id, account.username, account.role, frozenset(), None)
    session.rollback()
    return who


def _page(session: Session, who: SignedIn, case: pages.Case) -> object:
    begin_read(session)
    page = patrol_log.page(session, who, "incident", _selection(case), limit=pages.LIMIT)
    session.rollback()
    return page


def _selection(case: pages.Case) -> Selection:
    given: dict[str, Any] = dict(case.query)
    for name in given.keys() & {"from_at", "until_at"}:
        given[name] = dt.datetime.fromisoformat(given[name])
    if "bbox" in given:
        given["bbox"] = tuple(map(float, given["bbox"].split(",")))
    return Selection(**given)


def verify(bench: Bench) -> None:
    """Recomputing the evidence of a push, as `flask verify` does."""
    url, numbers = bench.databases.new(), bench.batches(bench.rows)
    with serving(url) as server:
        tokens = bench.warm(server)
        bench.run(phones.push, server.address, tokens, bench.days("verify"), numbers)
    engine = prepare(create_engine(url))
    with Session(engine) as session:
        begin_read(session)
        began = time.perf_counter()
        links = sum(1 for _ in evidence.verify(session))
        seconds = time.perf_counter() - began
    engine.dispose()
    records = (len(numbers) + 1) * len(bench.senders) * (BATCH + BATCH // PER_PATROL)
    tell("verify", f"{records / seconds:,.0f} records/s", f"{links} links")


def steps(bench: Bench) -> None:
    """Where the time of one worker goes, in its own process."""
    profile.take(bench.databases.new(), bench.days("profile")[0], bench.batches(len(bench.senders) * 10_000))


PARTS = {
    part.__name__: part
    for part in (
        *(push, existing, lists, maps.features, verify),
        *files.PARTS,
        *photos.PARTS,
        *pull.PARTS,
        *costs.PARTS,
        steps,
    )
}
#: Parts that go by one name.
GROUPS = {"photos": [part.__name__ for part in photos.PARTS]}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument(
        "parts", nargs="*", metavar="part", help=f"of {', '.join([*PARTS, *GROUPS])}; all if none is named"
    )
    parser.add_argument("--database", choices=("postgresql", "sqlite"), action="append")
    parser.add_argument("--rows", type=int, default=20_000, help="incidents of one push")
    parser.add_argument("--existing", type=int, default=400_000, help="incidents that are there already")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--phones", type=int, default=8, help="sending at the same time")
    given = parser.parse_args()
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        demo_list.write(folder)
        ground = Ground(folder)
        carried = senders(sorted(ground.items), given.phones, "bench")
        client = stack.enter_context(ProcessPoolExecutor(1, multiprocessing.get_context("spawn")))
        for kind in given.database or ("postgresql", "sqlite"):
            with databases(kind, folder, carried) as made:
                bench = Bench(client, made, ground, carried, given.rows, given.existing, given.repeats)
                for name in chain.from_iterable(GROUPS.get(part, [part]) for part in given.parts or PARTS):
                    print(f"\n{kind}: {(PARTS[name].__doc__ or '').partition('.')[0]}", flush=True)
                    PARTS[name](bench)


if __name__ == "__main__":
    main()
