"""One run of the benchmark: its phones, databases and amounts, and how its figures are printed."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from functools import cached_property
from statistics import median
from typing import Any

from sqlalchemy import create_engine, text

from sync.models import prepare
from tests.bench import floors, phones
from tests.bench.day import BATCH, Days, Ground, Sender
from tests.bench.places import PASSWORD, Databases, Gunicorn, serving

#: The server goes through these batches of each phone before anything is measured.
WARM_UP = range(9_000, 9_001)
#: Batches of each phone that are made at once while a database is filled.
STRETCH = 5


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

    def batches(self, incidents: int) -> range:
        """The batches of each phone that make up so many incidents."""
        return range(-(-incidents // (BATCH * len(self.senders))))

    def days(self, seed: str) -> list[Days]:
        now = dt.datetime.now(dt.UTC)
        return [Days(self.ground, sender, seed, now) for sender in self.senders]

    def run(self, work: Callable[..., Any], *given: Any) -> Any:
        """What the work gives, done in the client's process."""
        return self.client.submit(work, *given).result()

    def warm(self, server: Gunicorn) -> dict[str, str]:
        """A token for every phone; each worker has taken batches."""
        tokens: dict[str, str] = self.run(phones.sign_in, server.address, self.senders, PASSWORD)
        self.run(phones.push, server.address, tokens, self.days(f"warm-up {server.pid}"), WARM_UP)
        return tokens

    def tokens(self, server: Gunicorn) -> list[str]:
        """A token for every phone, in their order."""
        tokens: dict[str, str] = self.run(phones.sign_in, server.address, self.senders, PASSWORD)
        return [tokens[sender.install] for sender in self.senders]

    @cached_property
    def filled(self) -> str:
        """A database with all the incidents that are to be there already; nearly all photos have arrived."""
        url, rates = self.databases.new(), []
        with serving(url) as server:
            tokens = self.run(phones.sign_in, server.address, self.senders, PASSWORD)
            numbers = self.batches(self.existing)
            for start in range(0, len(numbers), STRETCH):
                stretch = numbers[start : start + STRETCH]
                pushed = self.run(phones.push, server.address, tokens, self.days("fill"), stretch)
                rates.append(pushed.rate)
            memory_mb = server.peak_mb()
        _photos_arrive(url)
        filled = len(numbers) * len(self.senders) * BATCH
        tell(f"filled with {filled:,}", f"{median(rates):,.0f}/s", f"the last {rates[-1]:,.0f}/s")
        tell("worker memory", f"at most {memory_mb:,.0f} MB")
        return url


def _photos_arrive(url: str) -> None:
    """All photos announced have arrived, but one in 256."""
    engine = prepare(create_engine(url))
    columns, those = "(sha256, size_bytes, received_at, officer_id)", "WHERE sha256 >= '01'"
    with engine.begin() as connection:
        arrived = f"SELECT sha256, 1000000, announced_at, officer_id FROM announced_photos {those}"
        connection.execute(text(f"INSERT INTO photos {columns} {arrived} ON CONFLICT DO NOTHING"))
        connection.execute(text(f"UPDATE announced_photos SET received_at = announced_at {those}"))
        connection.execute(text("ANALYZE"))
    engine.dispose()


def backends(url: str) -> list[int]:
    """The processes of the database; SQLite has none."""
    if "postgresql" not in url:
        return []
    with closing(floors.connect(url)) as connection:
        return [pid for (pid,) in connection.execute("SELECT pid FROM pg_stat_activity WHERE pid <> pg_backend_pid()")]


def tell(what: str, *figures: str) -> None:
    """Prints a line: what was measured, then its figures."""
    print(f"  {what:36}" + "".join(f"  {figure:>24}" for figure in figures), flush=True)


def rate(found: Sequence[float]) -> str:
    """The median, per second."""
    return f"{median(found):,.0f}/s"


def ratio(found: Sequence[float], others: Sequence[float]) -> float:
    """The median of what each is to its neighbour of the same repeat."""
    return median(one / other for one, other in zip(found, others, strict=True))
