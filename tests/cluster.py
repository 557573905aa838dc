"""A PostgreSQL to test on: a private cluster with PostGIS, or the server that `TEST_DATABASE_URL` names.

The private one lives in a folder of its own, is reached by a socket only, and forgets everything when the tests end. On
a server that is somebody's, only databases that were made here are dropped again.
"""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sqlalchemy import URL, create_engine, make_url, text

#: Durability is worth nothing here (-F), speed is; nobody comes in by the network.
SETTINGS = "-F -c listen_addresses='' -c max_connections=200 -c synchronous_commit=off -c full_page_writes=off"


class Server:
    """Where databases can be made; `drop_all` drops those that were made here."""

    def __init__(self, admin: URL) -> None:
        self._admin = admin
        self._made: list[str] = []

    def create_database(self, template: str = "template1") -> str:
        """The address of a new database, equal to the template (which nobody may be connected to)."""
        name = f"field_api_{uuid.uuid4().hex[:12]}"
        self._execute(f"CREATE DATABASE {name} TEMPLATE {template}")
        self._made.append(name)
        return self._admin.set(database=name).render_as_string(hide_password=False)

    def drop_all(self) -> None:
        while self._made:
            self._execute(f"DROP DATABASE {self._made.pop()} WITH (FORCE)")

    def _execute(self, statement: str) -> None:
        engine = create_engine(self._admin, isolation_level="AUTOCOMMIT")
        with engine.connect() as connection:
            connection.execute(text(statement))
        engine.dispose()


def binaries() -> Path | None:
    """The folder of the newest PostgreSQL server here that has PostGIS, if there is one."""
    found = [path for path in Path("/usr/lib/postgresql").glob("*/bin") if _has_postgis(path)]
    if not found and (config := shutil.which("pg_config")):
        told = subprocess.run([config, "--bindir"], capture_output=True, text=True, check=True).stdout
        found = [path for path in [Path(told.strip())] if _has_postgis(path)]
    return max(found, key=lambda path: float(path.parent.name) if path.parent.name.isdigit() else 0, default=None)


def _has_postgis(folder: Path) -> bool:
    if not (folder / "postgres").exists() or not (folder / "pg_config").exists():
        return False
    shared = subprocess.run([folder / "pg_config", "--sharedir"], capture_output=True, text=True, check=True).stdout
    return (Path(shared.strip()) / "extension" / "postgis.control").exists()


@contextmanager
def named(url: str) -> Iterator[Server]:
    """The server of this address. What is there is never touched."""
    server = Server(make_url(url))
    yield server
    server.drop_all()


@contextmanager
def private(folder: Path, settings: str = SETTINGS) -> Iterator[Server]:
    """A cluster of our own, run by the server binaries in `folder`."""
    home = Path(tempfile.mkdtemp(prefix="field-api-"))
    as_postgres: list[str] = []
    if os.geteuid() == 0:  # PostgreSQL refuses to be run by root
        as_postgres = ["runuser", "-u", "postgres", "--"]
        os.chown(home, pwd.getpwnam("postgres").pw_uid, -1)

    def run(program: str, *arguments: str) -> None:
        command = [*as_postgres, str(folder / program), "-D", str(home / "data"), *arguments]
        subprocess.run(command, cwd=home, check=True, stdout=subprocess.DEVNULL)

    try:
        run("initdb", "-U", "postgres", "--auth=trust", "--encoding=UTF8", "--locale=C.UTF-8", "--no-sync")
        run("pg_ctl", "-w", "-l", str(home / "log"), "-o", f"{settings} -k {home}", "start")
        try:
            yield Server(URL.create("postgresql+psycopg", "postgres", database="postgres", query={"host": str(home)}))
        finally:
            run("pg_ctl", "-w", "-m", "immediate", "stop")
    finally:
        shutil.rmtree(home)
