"""`make run`: the server with demo data on 127.0.0.1, and one patrol day through it.

    python -m tests.demo [--once]

`PORT` (8000), `DEMO_PASSWORD` (else a random one, printed) and `INSTANCE_FOLDER` (`instance`) may be set. What is there
is kept: a second start goes on from it, and a day that was played is not played again. `--once` stops after the day.
"""

from __future__ import annotations

import argparse
import os
import secrets
import signal
import socket
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from uuid import uuid4

from field_api.settings import INSTANCE_FOLDER
from tests.demo import day
from tests.demo.instance import set_up
from tests.demo.people import PEOPLE
from tests.journeys.serving import running

#: waitress, the only one for Windows, collects a body before the app sees it: what came of a cut one is lost there.
SERVER = "gunicorn of one" if hasattr(os, "fork") else "waitress"
TITLE_WIDTH = 42
MB = 1_000_000


def main() -> None:
    """Everything, until Ctrl-C."""
    given = _arguments()
    folder = Path(os.environ.get("INSTANCE_FOLDER", INSTANCE_FOLDER))
    port = int(os.environ.get("PORT", "8000"))
    chosen = os.environ.get("DEMO_PASSWORD")
    password = chosen or secrets.token_urlsafe(9)
    folder.mkdir(parents=True, exist_ok=True)
    _check_port(port)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("Stopped."))  # and the server with it
    database_url = f"sqlite:///{folder / 'field.sqlite'}"
    print(f"Demo data in {_shown(folder)} …")
    set_up(database_url, password)
    with running(SERVER, database_url, folder, port=port, secret=_secret(folder / "secret")) as server:
        _play(folder / "phones", server.url, password)
        _show_around(server.url, password, chosen=bool(chosen))
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


def _check_port(port: int) -> None:
    try:
        socket.create_server(("127.0.0.1", port)).close()
    except OSError as taken:
        sys.exit(f"Port {port} can't be had on 127.0.0.1 ({taken.strerror}). Choose another: PORT=8010 make run")


# ---------------------------------------------------------------- what is printed


def _play(folder: Path, server: str, password: str) -> None:
    print(f"Five officers are out for {day.DAY_H:.0f} hours (this takes some seconds) …")
    played = day.today(folder, server, password)
    print(f"Back in reach, they send the day of {played.folder.name}, all at once, over bad networks.")
    print("(A day that was sent before is not sent again: the table then shows what was answered.)\n")
    print(f"{'phone':<16}{'ops':>5}{'applied':>9}{'held':>6}{'conflict':>10}{'quarant.':>10}{'replayed':>10}", end="")
    print(f"{'notes':>7}{'photos':>8}{'MB':>6}{'again':>7}{'troubles':>10}  about")
    bar = _Bar(day.photos_bytes(played))
    told = day.send(played, server, password, lambda told: bar.print(_line(told)), bar.sending)
    bar.clear()
    print("\nDone on purpose, and what became of it (the server looks at photos when it has time) …\n")
    for case, seen in day.became(played, server, password):
        _print_case(case, seen)
    for one in told:
        if one.waiting or one.holes:
            print(f"  ! {one.carrier.username}: {one.waiting} not sent, counters lost: {one.holes}")
    _print_twice(day.sent_again(played, server, password), day.alike(played, server, password))
    carried, back = day.returned(played, server, password)
    print(f"\n{day.CARRIERS[0].username} takes {carried:,} items, delegations, places and warnings along for tomorrow,")
    print(f"and reads on {back.noun} {back.record[:8]}, which was returned: “{back.comment}” ({back.by})")


def _print_twice(results: Sequence[day.Json], pair: day.Json | None) -> None:
    """What became of records that were sent again, and of the stall that two officers told of."""
    again = sum(any(other["grouped"] for other in result["resembles"]) for result in results)
    print(f"\n{day.CARRIERS[0].username} reinstalls the app, which sends {len(results)} records again: ", end="")
    print(f"{again} are one with what was there, and count once.")
    if pair is None:
        print("  ✗ the stall that two officers told of does not wait for anybody")
        return
    reasons = ", ".join(f"{piece['name']} {piece['weight']:+.1f}" for piece in pair["evidence"][:5])
    print("The stall that two officers told of waits for demo-supervisor: ", end="")
    print(f"{pair['score']:.1%} one event, in bits {reasons} …")


class _Bar:
    """How much of the photos has arrived, in one line that stays the last; nothing where the output is no terminal."""

    def __init__(self, total_bytes: int) -> None:
        self._total_bytes = total_bytes
        self._held: dict[str, int] = {}
        self._began = self._drawn = time.monotonic()
        self._lock = threading.Lock()

    def sending(self, sha256: str, held: int, length: int) -> None:
        with self._lock:
            self._held[sha256] = held
            if time.monotonic() - self._drawn > 0.1:
                self._draw()

    def print(self, line: str) -> None:
        """The line, above the bar."""
        with self._lock:
            self.clear()
            print(line, flush=True)
            self._draw()

    def clear(self) -> None:
        if sys.stdout.isatty():
            print("\r\033[K", end="")

    def _draw(self) -> None:
        self._drawn, held = time.monotonic(), sum(self._held.values())
        if not sys.stdout.isatty() or held >= self._total_bytes:
            return
        done = 40 * held // self._total_bytes
        rate = held / MB / (self._drawn - self._began)
        print(f"\r\033[Kphotos {'█' * done}{'░' * (40 - done)} ", end="")
        print(f"{held / MB:.1f} of {self._total_bytes / MB:.1f} MB, {rate:.1f} MB/s", end="", flush=True)


def _line(told: day.Told) -> str:
    now, again = told.now, max(0, told.uploaded_bytes - told.photos_bytes) / max(1, told.photos_bytes)
    outcomes = f"{now['applied']:>9}{now['held']:>6}{now['conflict']:>10}{now['quarantined']:>10}{told.replayed:>10}"
    photos = f"{told.photos_sent:>8}{told.photos_bytes / MB:>6.1f}{again:>7.1%}"
    about = f"{told.troubles:>10}  {told.carrier.about}"
    return f"{told.carrier.username:<16}{told.recorded:>5}{outcomes}{told.notes.total():>7}{photos}{about}"


def _print_case(case: day.Case, seen: day.Seen) -> None:
    mark = "✓" if seen.is_as_meant(case) else f"✗ expected {case.outcome} {' '.join(sorted(case.codes))}:"
    if seen.is_yet_to_be_looked_at(case):
        mark = "… not looked at yet:"
    became = seen.outcome if seen.now == seen.outcome else f"{seen.outcome}, then {seen.now}"
    print(f"  {mark} {case.title:<{TITLE_WIDTH}} {became}  {' '.join(sorted(seen.codes))}", flush=True)


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
