"""`make run`: the server with demo data on 127.0.0.1, and one patrol day through it.

    python -m tests.demo [--once]

`PORT` (8000), `DEMO_PASSWORD` (else a random one, printed) and `INSTANCE_FOLDER` (`instance`) may be set. What is there
is kept: a second start goes on from it, and a day that was played is not played again. `--once` stops after the day.
"""

from __future__ import annotations

import argparse
import os
import secrets
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

from flask import Flask
from waitress.server import create_server

from field_api.app import create_app
from field_api.settings import INSTANCE_FOLDER, Settings
from tests.demo import day
from tests.demo.instance import set_up
from tests.demo.people import PEOPLE

THREADS = 16
TITLE_WIDTH = 42


def main() -> None:
    """Everything, until Ctrl-C."""
    given = _arguments()
    folder = Path(os.environ.get("INSTANCE_FOLDER", INSTANCE_FOLDER))
    port = int(os.environ.get("PORT", "8000"))
    chosen = os.environ.get("DEMO_PASSWORD")
    password = chosen or secrets.token_urlsafe(9)
    folder.mkdir(parents=True, exist_ok=True)
    settings = Settings(
        secret=_secret(folder / "secret"),
        database_url=f"sqlite:///{folder / 'field.sqlite'}",
        store_folder=folder / "photos",
    )
    with _serving(create_app(settings), port) as server:
        print(f"Demo data in {_shown(folder)} …")
        set_up(settings.database_url, password)
        _play(folder / "phones", server, password)
        _show_around(server, password, chosen=bool(chosen))
        if not given.once:
            _wait()


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--once", action="store_true", help="stop after the day instead of serving on")
    return parser.parse_args()


def _secret(file: Path) -> str:
    """The demo's secret, made once and readable by its owner only."""
    if not file.exists():
        with os.fdopen(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as new:
            new.write(secrets.token_urlsafe(48))
    return file.read_text()


@contextmanager
def _serving(app: Flask, port: int) -> Iterator[str]:
    """The address of a waitress that serves the app in a thread of its own."""
    try:
        waitress: Any = create_server(app, host="127.0.0.1", port=port, threads=THREADS)
    except OSError as taken:
        sys.exit(f"Port {port} can't be had on 127.0.0.1 ({taken.strerror}). Choose another: PORT=8010 make run")
    thread = threading.Thread(target=waitress.run, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{waitress.effective_port}"
    finally:
        waitress.close()


# ---------------------------------------------------------------- what is printed


def _play(folder: Path, server: str, password: str) -> None:
    print(f"Five officers are out for {day.DAY_H:.0f} hours (this takes a few seconds) …")
    played = day.today(folder, server, password)
    print(f"Back in reach, they send the day of {played.folder.name}, all at once, over bad networks.")
    print("(A day that was sent before is not sent again: the table then shows what was answered.)\n")
    print(f"{'phone':<16}{'ops':>5}{'applied':>9}{'held':>6}{'conflict':>10}{'quarant.':>10}{'replayed':>10}", end="")
    print(f"{'notes':>7}{'photos':>8}{'troubles':>10}  about")
    told = day.send(played, server, password, _print_phone)
    print("\nDone on purpose, and what became of it:\n")
    for one in told:
        for title, seen in one.cases.items():
            _print_case(next(case for case in day.CASES if case.title == title), seen)
    for one in told:
        if one.waiting or one.holes:
            print(f"  ! {one.carrier.username}: {one.waiting} not sent, counters lost: {one.holes}")


def _print_phone(told: day.Told) -> None:
    now = told.now
    print(f"{told.carrier.username:<16}{told.recorded:>5}{now['applied']:>9}{now['held']:>6}", end="")
    print(f"{now['conflict']:>10}{now['quarantined']:>10}{told.replayed:>10}{told.notes.total():>7}", end="")
    print(f"{told.photos_sent:>8}{told.troubles:>10}  {told.carrier.about}", flush=True)


def _print_case(case: day.Case, seen: day.Seen) -> None:
    mark = "✓" if seen.is_as_meant(case) else f"✗ expected {case.outcome} {' '.join(sorted(case.codes))}:"
    became = seen.outcome if seen.now == seen.outcome else f"{seen.outcome}, then {seen.now}"
    print(f"  {mark} {case.title:<{TITLE_WIDTH}} {became}  {' '.join(sorted(seen.codes))}")


def _show_around(server: str, password: str, *, chosen: bool) -> None:
    sign_in = f'{{"username":"demo-supervisor","password":"\'"$DEMO_PASSWORD"\'","install":"{uuid4()}"}}'
    whose = "as set in DEMO_PASSWORD"
    if not chosen:
        whose = f"{password}   (random, new at every start; DEMO_PASSWORD chooses one)"
    export = "" if chosen else f"    export DEMO_PASSWORD='{password}'\n"
    print(
        f"""
Where to look
  API document    {server}/api/docs
  password        {whose}
  accounts        {", ".join(person.username for person in PEOPLE)}

  A query, as the supervisor of 益农镇 and 瓜沥镇:
{export}    TOKEN=$(curl -s {server}/api/v1/auth/login -H 'Content-Type: application/json' \\
      -d '{sign_in}' | python3 -c 'import json, sys; print(json.load(sys.stdin)["access_token"])')
    curl -s -H "Authorization: Bearer $TOKEN" '{server}/api/v1/incidents?note=township-mismatch'
  An export of the same selection, for a map:
    curl -s -H "Authorization: Bearer $TOKEN" '{server}/api/v1/exports/incidents.geojson' -o incidents.geojson
"""
    )


def _wait() -> None:
    print("Serving until Ctrl-C.", flush=True)
    try:
        threading.Event().wait()
    except KeyboardInterrupt:
        print("\nStopped. Everything is kept; `make run` goes on from it.")


def _shown(folder: Path) -> str:
    return f"{os.path.relpath(folder)}/"


if __name__ == "__main__":
    main()
