"""Prints how fast it is, each figure beside its floor of the same run.

python -m tests.bench                                          everything, on both databases
python -m tests.bench push --rows 20000 --database postgresql  one part of it
"""

from __future__ import annotations

import argparse
import datetime as dt
import multiprocessing
import tempfile
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from tests.bench import floors, phones
from tests.bench.day import BATCH, Days, Ground, Sender, senders
from tests.bench.places import PASSWORD, Databases, databases, serving
from tests.demo import demo_list

#: The server goes through this many batches of each phone before anything is measured.
WARM_UP = range(9_000, 9_001)


@dataclass(frozen=True)
class Bench:
    """One run: the phones in their own process, databases of one kind, how much of what."""

    client: ProcessPoolExecutor
    databases: Databases
    ground: Ground
    senders: Sequence[Sender]
    rows: int
    existing: int
    repeats: int

    @property
    def numbers(self) -> range:
        """The batches of each phone that make up the rows of a push."""
        return range(-(-self.rows // (BATCH * len(self.senders))))

    def days(self, seed: str) -> list[Days]:
        now = dt.datetime.now(dt.UTC)
        return [Days(self.ground, sender, seed, now) for sender in self.senders]


def push(bench: Bench) -> None:
    """First push and replay into empty tables."""
    rates, replays, floor_rates, latencies_s = [], [], [], []
    for repeat in range(bench.repeats):
        url = bench.databases.new()
        days = bench.days(f"push {repeat}")
        floor_rates.append(floors.insert_rate(url, floors.rows(days, bench.numbers)))
        with serving(url) as server:
            tokens = bench.client.submit(phones.sign_in, server.address, bench.senders, PASSWORD).result()
            bench.client.submit(phones.push, server.address, tokens, days, WARM_UP).result()
            first, again = bench.client.submit(phones.push, server.address, tokens, days, bench.numbers, 2).result()
            memory_mb = server.peak_mb()
        rates.append(first.rate)
        replays.append(again.rate)
        latencies_s += first.latencies_s
        print(f"    {first.rate:8,.0f}/s, again {again.rate:8,.0f}/s, floor {floor_rates[-1]:8,.0f}/s", flush=True)
    of_floor = median(rate / floor for rate, floor in zip(rates, floor_rates, strict=True))
    tell("first push", f"{median(rates):,.0f}/s", f"floor {median(floor_rates):,.0f}/s", f"ratio {of_floor:.3f}")
    ratio = median(again / first for again, first in zip(replays, rates, strict=True))
    tell("replay", f"{median(replays):,.0f}/s", f"push {median(rates):,.0f}/s", f"ratio {ratio:.2f}")
    tell("a batch of 500", f"median {median(latencies_s) * 1000:,.0f} ms", f"worst {max(latencies_s) * 1000:,.0f} ms")
    tell("worker memory", f"at most {memory_mb:,.0f} MB")


def tell(what: str, *figures: str) -> None:
    print(f"  {what:34}" + "".join(f"{figure:>24}" for figure in figures), flush=True)


PARTS = {"push": push}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__.partition("\n")[0])
    parser.add_argument("parts", nargs="*", metavar="part", help=f"of {', '.join(PARTS)}; all of them if none is named")
    parser.add_argument("--database", choices=("postgresql", "sqlite"), action="append")
    parser.add_argument("--rows", type=int, default=20_000, help="incidents of one push")
    parser.add_argument("--existing", type=int, default=400_000, help="incidents that are there already")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--phones", type=int, default=4)
    given = parser.parse_args()
    with ExitStack() as stack:
        lists = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        demo_list.write(lists)
        ground = Ground(lists)
        carried = senders(sorted(ground.items), given.phones, "bench")
        client = stack.enter_context(ProcessPoolExecutor(1, multiprocessing.get_context("spawn")))
        for kind in given.database or ("postgresql", "sqlite"):
            with databases(kind, lists, carried) as made:
                bench = Bench(client, made, ground, carried, given.rows, given.existing, given.repeats)
                for part in given.parts or PARTS:
                    print(f"\n{kind}: {(PARTS[part].__doc__ or '').partition('.')[0]}", flush=True)
                    PARTS[part](bench)


if __name__ == "__main__":
    main()
