"""What parts of the server cost: pushing to it as it is, and to one that is without that part, in turn."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from statistics import median

from tests.bench import floors, phones
from tests.bench.places import cpu_s, serving
from tests.bench.run import Bench, backends, rate, ratio, tell

WHOLE, FEEDLESS, BLIND = "wsgi:app", "tests.bench.feedless:app", "tests.bench.blind:app"


def feed(bench: Bench) -> None:
    """First push, with the feed and without it, in turn."""
    _compare(bench, "the feed", FEEDLESS, bench.databases.new, "SELECT count(*) FROM feed WHERE kind = 'incident'")


def likeness(bench: Bench) -> None:
    """Push into many incidents, with likeness and without it, in turn."""
    _compare(bench, "likeness", BLIND, lambda: bench.filled, "SELECT count(*) FROM vendor_keys")


def _compare(bench: Bench, part: str, without: str, database: Callable[[], str], left: str) -> None:
    """The rates of both servers; `left` counts what only the whole one leaves behind."""
    rates: dict[str, list[float]] = {WHOLE: [], without: []}
    computing_us: dict[str, list[float]] = {WHOLE: [], without: []}
    for repeat in range(bench.repeats):
        for app in rates if repeat % 2 else reversed(rates):
            url = database()
            before = _count(url, left)
            pushed, computed_s = _push(bench, url, app, f"{part} {repeat} {app}")
            if (_count(url, left) > before) != (app == WHOLE):
                raise RuntimeError(f"{app} is not what it is said to be")
            rates[app].append(pushed.rate)
            computing_us[app].append(1e6 * computed_s / pushed.incidents)
    whole, bare = rates.values()
    tell(f"push with {part}", rate(whole), f"without it {rate(bare)}", f"ratio {ratio(whole, bare):.2f}")
    whole_us, bare_us = computing_us.values()
    figures = f"{median(whole_us):,.0f} µs", f"without it {median(bare_us):,.0f} µs"
    tell("computing, per incident", *figures, f"ratio {ratio(bare_us, whole_us):.2f}")


def _count(url: str, question: str) -> int:
    with closing(floors.connect(url)) as connection:
        (count,) = connection.execute(question).fetchone()
    return int(count)


def _push(bench: Bench, url: str, app: str, seed: str) -> tuple[phones.Pushed, float]:
    """What was pushed, and what workers and database computed for it, s."""
    with serving(url, app=app) as server:
        tokens = bench.warm(server)
        of_database = backends(url)
        before_s = server.cpu_s() + cpu_s(of_database)
        pushed = bench.run(phones.push, server.address, tokens, bench.days(seed), bench.batches(bench.rows))
        return pushed, server.cpu_s() + cpu_s(of_database) - before_s


PARTS = (feed, likeness)
