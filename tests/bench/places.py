"""Where the benchmark runs: databases with tables, lists and accounts, and gunicorn on one of them.

The PostgreSQL cluster is private, as in the tests, but as durable as in production: what is acknowledged was synced to
the disk. SQLite is a file, set up as the server always does.
"""

from __future__ import annotations

import datetime as dt
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import create_engine, make_url
from sqlalchemy.orm import Session

from migrations import upgrade
from sync import accounts, journal, reference
from sync.models import begin_write, prepare
from tests import cluster
from tests.bench.day import Sender

ROOT = Path(__file__).resolve().parents[2]
WORKERS, THREADS = 2, 32
PASSWORD = "bench-only-password"
#: Who reads: the whole district is theirs. It signs in as a phone does.
READER = Sender("bench-gis", "", "", "00000000-0000-4000-8000-000000000015")
#: What a small server is usually given; everything else as PostgreSQL comes.
DURABLE = "-c listen_addresses='' -c max_connections=200 -c shared_buffers=512MB -c max_wal_size=4GB"


class Databases:
    """New databases of one kind, each equal to the first: tables, the lists in `folder`, an account per phone."""

    def __init__(self, server: cluster.Server | None, home: Path, lists: Path, senders: Sequence[Sender]) -> None:
        self._server, self._home, self._made = server, home, 0
        self._first = server.create_database() if server else f"sqlite:///{home / 'first.sqlite'}"
        set_up(self._first, lists, senders)

    def new(self) -> str:
        """The address of a new one."""
        if self._server:
            return self._server.create_database(make_url(self._first).database or "")
        self._made += 1
        file = self._home / f"{self._made}.sqlite"
        shutil.copyfile(self._home / "first.sqlite", file)
        return f"sqlite:///{file}"


@contextmanager
def databases(kind: str, lists: Path, senders: Sequence[Sender]) -> Iterator[Databases]:
    """Databases of this kind, gone at the end. Raises LookupError where there is no PostgreSQL server."""
    with tempfile.TemporaryDirectory(prefix="field-api-bench-") as home:
        if kind == "sqlite":
            yield Databases(None, Path(home), lists, senders)
            return
        folder = cluster.binaries()
        if folder is None:
            raise LookupError("no PostgreSQL server with PostGIS on this machine")
        with cluster.private(folder, DURABLE) as server:
            yield Databases(server, Path(home), lists, senders)


def set_up(url: str, lists: Path, senders: Sequence[Sender]) -> None:
    """Tables, lists and accounts are there."""
    upgrade(url)
    engine = prepare(create_engine(url))
    now = dt.datetime.now(dt.UTC)
    with Session(engine) as session:
        begin_write(session)
        journal.start(session)
        reference.load(session, reference.read(lists), now=now)
        session.commit()
        for name, township in sorted(
            {(s.username, s.township) for s in senders} | {(s.partner, s.township) for s in senders}
        ):
            add_account(session, name, "officer", (township,), now)
        add_account(session, READER.username, "gis", (), now)
    engine.dispose()


def add_account(session: Session, name: str, role: str, townships: Sequence[str], now: dt.datetime) -> None:
    """Somebody who may sign in with `PASSWORD`, for as long as the benchmark looks back."""
    since = now.date() - dt.timedelta(days=1_000)
    card = {"card_number": f"BENCH-{name}", "card_from_on": since, "card_until_on": since + dt.timedelta(days=2_000)}
    begin_write(session)
    accounts.add(
        session, name, PASSWORD, full_name=name, role=role, townships=townships, from_on=since, now=now, **card
    )
    session.commit()


@dataclass(frozen=True)
class Gunicorn:
    """A running server."""

    address: str
    pid: int

    def workers(self) -> list[int]:
        """The worker processes' ids."""
        return [int(pid) for pid in Path(f"/proc/{self.pid}/task/{self.pid}/children").read_text().split()]

    def cpu_s(self) -> float:
        """What the workers have computed so far, s."""
        return cpu_s(self.workers())

    def threads(self) -> list[int]:
        """How many threads each worker has started so far."""
        return [len(os.listdir(f"/proc/{pid}/task")) for pid in self.workers()]

    def peak_mb(self) -> float:
        """What the largest worker held at most, MB."""
        return max(self.peaks_mb())

    def peaks_mb(self) -> list[float]:
        """What each worker held at most, MB."""
        return [_status_mb(pid, "VmHWM") for pid in self.workers()]


def cpu_s(pids: Sequence[int]) -> float:
    """What these processes have computed so far, s."""
    spent = (Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[11:13] for pid in pids)
    return sum(int(user) + int(system) for user, system in spent) / os.sysconf("SC_CLK_TCK")


def _status_mb(pid: int, name: str) -> float:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith(f"{name}:"))


@contextmanager
def serving(url: str, threads: int = THREADS, app: str = "wsgi:app", **also: int) -> Iterator[Gunicorn]:
    """gunicorn with two workers on this database, as in production; `also` are settings by name."""
    with tempfile.TemporaryDirectory(prefix="field-api-store-") as store:
        port = _free_port()
        settings = {
            "DATABASE_URL": url,
            "FIELD_API_SECRET": "for the benchmark only, and for nothing else",
            "FIELD_API_STORE_FOLDER": store,
            "FIELD_API_ACCESS_TOKEN_S": "86400",
            "FIELD_API_PHOTO_DAY_MAX_BYTES": str(1 << 50),
        }
        command = [sys.executable, "-m", "gunicorn", app, "--no-control-socket", "--log-level", "warning"]
        command += ["--bind", f"127.0.0.1:{port}", "--worker-class", "gthread"]
        command += ["--workers", str(WORKERS), "--threads", str(threads), "--timeout", "300"]
        told = {f"FIELD_API_{name.upper()}": str(value) for name, value in also.items()}
        process = subprocess.Popen(command, cwd=ROOT, env=os.environ | settings | told)
        try:
            address = f"http://127.0.0.1:{port}"
            _wait_for(address, process)
            yield Gunicorn(address, process.pid)
        finally:
            process.terminate()
            process.wait(30)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _wait_for(address: str, process: subprocess.Popen[bytes]) -> None:
    for _ in range(300):
        if process.poll() is not None:
            raise RuntimeError("gunicorn did not start")
        try:
            urllib.request.urlopen(f"{address}/health", timeout=5).close()
            return
        except OSError:  # refused, or too busy to answer
            time.sleep(0.1)
    raise RuntimeError("gunicorn does not answer")
