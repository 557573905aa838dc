"""How photos fare: uploads beside their floor, small pictures beside Pillow alone, memory, everybody else meanwhile.

The goals are those of the project: half the floor, 300 MB per worker with fifty large uploads at once, a page of a list
within 100 ms while two hundred slow phones send.
"""

from __future__ import annotations

import io
import multiprocessing
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import closing, contextmanager
from statistics import median, quantiles

from PIL import Image

from sync import pictures
from tests.bench import album, floors, phones, uploads
from tests.bench.album import LARGEST, PHONE
from tests.bench.places import PASSWORD, READER, WORKERS, cpu_s, serving
from tests.bench.receiver import receiving
from tests.bench.run import Bench, backends, ratio, tell
from tests.bench.uploads import CHUNK_BYTES, Album, Sent

#: Photos of one measurement, and phones that send them at the same time.
COUNT, AT_ONCE = 200, (1, 8)
#: How photos are sent: how large a chunk is; `None`: by PUT.
WAYS = {"PUT": None, "tus, one chunk": 1 << 30, "tus, 256 KiB chunks": CHUNK_BYTES}
#: What each worker sends before anything is measured.
WARM_UP = 16
#: Large photos sent at once.
CROWD = 50
#: Phones on slow lines, incidents in the list meanwhile, pages asked for per second and how long, s.
SLOW_PHONES, LISTED, PAGES_PER_S, READ_S = 200, 10_000, 20, 30
PAGE = "/api/v1/incidents?limit=50"


def uploads_alone(bench: Bench) -> None:
    """Photos of 3 MB: sent, kept and known, beside receiving them alone."""
    for at_once in AT_ONCE:
        bare: list[float] = []
        found: dict[str, list[Sent]] = defaultdict(list)
        computing: dict[str, tuple[float, float]] = {}
        for repeat in range(bench.repeats):
            which = Album(PHONE, f"{at_once} {repeat}", COUNT)
            with receiving(WORKERS) as floor:
                bench.run(uploads.send_bare, floor, Album(PHONE, "warm-up", WARM_UP), max(AT_ONCE))
                bare.append(bench.run(uploads.send_bare, floor, which, at_once).mb_per_s)
            for name, chunk_bytes in WAYS.items():
                sent, computing[name] = _measured(bench, which, at_once, chunk_bytes)
                found[name].append(sent)
        tell(f"floor, {at_once} at once", f"{median(bare):,.0f} MB/s")
        for name, each in found.items():
            rates = [sent.mb_per_s for sent in each]
            waits_ms = [1000 * wait_s for sent in each for wait_s in sent.latencies_s]
            tell(
                f"{name}, {at_once} at once",
                f"{median(rates):,.0f} MB/s",
                f"of the floor {ratio(rates, bare):.2f}",
                f"a photo {median(waits_ms):,.0f}, at most {max(waits_ms):,.0f} ms",
                "computing {:,.1f} + {:,.1f} ms".format(*computing[name]),
            )


def _measured(bench: Bench, which: Album, at_once: int, chunk_bytes: int | None) -> tuple[Sent, tuple[float, float]]:
    """The photos sent to a new server; what workers and database computed for each, ms."""
    url = bench.databases.new()
    with serving(url, look_every_s=0) as server:
        tokens = bench.tokens(server)
        bench.run(uploads.send, server.address, tokens, Album(PHONE, "warm-up", WARM_UP), chunk_bytes)
        of_database = backends(url)
        before_s = server.cpu_s(), cpu_s(of_database)
        sent: Sent = bench.run(uploads.send, server.address, tokens[:at_once], which, chunk_bytes)
        after_s = server.cpu_s(), cpu_s(of_database)
    workers_ms, database_ms = (1000 * (b - a) / which.count for a, b in zip(before_s, after_s, strict=True))
    return sent, (workers_ms, database_ms)


def derivatives(_bench: Bench) -> None:
    """Small pictures of a 12-Mpx photo, made by one process, beside Pillow alone."""
    photo = album.picture(PHONE)
    ours_s, alone_s = [], []
    for name, px, made in (
        ("thumb, with all that is looked at", pictures.THUMB_PX, lambda: pictures.look(io.BytesIO(photo))),
        ("screen", pictures.SCREEN_PX, lambda: pictures.develop(io.BytesIO(photo), pictures.SCREEN_PX)),
    ):
        pairs = [(phones.timed(made, 1)[0], phones.timed(lambda: _by_pillow(photo, px), 1)[0]) for _ in range(20)]  # noqa: B023  (called at once)
        ours_s.append([ours for ours, _ in pairs])
        alone_s.append([alone for _, alone in pairs])
        _tell_pictures(name, ours_s[-1], alone_s[-1])
    _tell_pictures("both", *([sum(both) for both in zip(*found, strict=True)] for found in (ours_s, alone_s)))


def _by_pillow(photo: bytes, px: int) -> bytes:
    file = io.BytesIO()
    with Image.open(io.BytesIO(photo)) as picture:
        picture.draft("RGB", (px, px))
        picture.thumbnail((px, px))
        picture.save(file, "JPEG", quality=pictures.QUALITY)
    return file.getvalue()


def _tell_pictures(name: str, ours_s: Sequence[float], alone_s: Sequence[float]) -> None:
    of_floor = f"of the floor {ratio(alone_s, ours_s):.2f}"
    tell(name, f"{1 / median(ours_s):,.1f}/s", f"Pillow alone {1 / median(alone_s):,.1f}/s", of_floor)


def crowd(bench: Bench) -> None:
    """Fifty photos of 20 MB at once: what the workers hold at most."""
    for name, chunk_bytes in WAYS.items():
        url = bench.databases.new()
        with serving(url) as server:
            tokens = bench.tokens(server) * CROWD
            before = server.peaks_mb()
            which = Album(LARGEST, name, CROWD)
            sent: Sent = bench.run(uploads.send, server.address, tokens[:CROWD], which, chunk_bytes)
            during = server.peaks_mb()
            _wait_until_seen(url)
            tell(
                f"{name}, {CROWD} of {sent.bytes / CROWD / 1e6:.0f} MB",
                f"{sent.mb_per_s:,.0f} MB/s",
                f"workers {_each(before)} MB before",
                f"then {_each(during)} MB",
                f"when seen {_each(server.peaks_mb())} MB",
            )


def _each(found: Sequence[float]) -> str:
    return ", ".join(f"{each:,.0f}" for each in found)


def _unseen(url: str) -> int:
    with closing(floors.connect(url)) as connection:
        return int(connection.execute("SELECT count(*) FROM photo_facts WHERE looked_at IS NULL").fetchone()[0])


def _wait_until_seen(url: str) -> None:
    """Nobody has to look at a photo any more."""
    while _unseen(url):
        time.sleep(0.2)


def slow_lines(bench: Bench) -> None:
    """A page of fifty of 10,000 while two hundred slow phones send."""
    url = bench.databases.new()
    with serving(url) as server:
        tokens = bench.warm(server)
        bench.run(phones.push, server.address, tokens, bench.days("listed"), bench.batches(LISTED))
    for threads in (32, 128, 256):
        for name, chunk_bytes in (("PUT", None), ("tus, 256 KiB chunks", CHUNK_BYTES)):
            _beside_slow_lines(bench, url, threads, name, chunk_bytes)


def _beside_slow_lines(bench: Bench, url: str, threads: int, name: str, chunk_bytes: int | None) -> None:
    with serving(url, threads) as server, _second_client() as client, _watched(url) as seen:
        tokens = bench.tokens(server)
        reader = bench.run(phones.sign_in, server.address, [READER], PASSWORD)[READER.install]
        page = server.address, reader, PAGE, PAGES_PER_S
        bench.run(uploads.read_steadily, *page, 2.0)
        quiet = bench.run(uploads.read_steadily, *page, READ_S / 3)
        which = Album(PHONE, f"slow {threads} {name}", SLOW_PHONES)
        lasts_s = READ_S + 2 * uploads.SPREAD_S
        began, before_s = time.perf_counter(), server.cpu_s()
        sending = client.submit(uploads.send_slowly, server.address, tokens, which, chunk_bytes, lasts_s)
        time.sleep(1.5 * uploads.SPREAD_S)
        seen.clear()
        busy = bench.run(uploads.read_steadily, *page, READ_S)
        watched = list(seen)
        size, answers = sending.result()
        spent = (server.cpu_s() - before_s) / (time.perf_counter() - began)
        tell(
            f"2 x {threads} threads, {name}",
            _percentiles(busy),
            f"quiet {_percentiles(quiet)}",
            f"{size / lasts_s / 1e6:.1f} MB/s, {answers} answers",
            f"workers {_each(server.peaks_mb())} MB, {_each(server.threads())} threads",
            f"{spent:.2f} cores",
            _connections(watched),
        )


def _percentiles(found_s: Sequence[float]) -> str:
    cuts = quantiles(found_s, n=100)
    return f"p50 {1000 * cuts[49]:,.0f} p99 {1000 * cuts[98]:,.0f} ms"


@contextmanager
def _second_client() -> Iterator[ProcessPoolExecutor]:
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as client:
        yield client


@contextmanager
def _watched(url: str) -> Iterator[list[dict[str, int]]]:
    """Grows by what the server's connections do, ten times a second; nothing on SQLite."""
    seen: list[dict[str, int]] = []
    over = threading.Event()

    def watch() -> None:
        with closing(floors.connect(url)) as connection:
            connection.autocommit = True
            while not over.wait(0.1):
                seen.append(dict(connection.execute(_STATES).fetchall()))

    watching = threading.Thread(target=watch)
    if "postgresql" in url:
        watching.start()
    yield seen
    over.set()
    if "postgresql" in url:
        watching.join()


#: What connections do; those in a transaction on which nothing has happened for a second have a line of their own.
_STATES = """
SELECT CASE WHEN state <> 'idle' AND state_change < now() - interval '1 second' THEN 'held' ELSE state END, count(*)
FROM pg_stat_activity
WHERE datname = current_database() AND pid <> pg_backend_pid() AND state IS NOT NULL GROUP BY 1
"""


def _connections(watched: Sequence[dict[str, int]]) -> str:
    """How many connections there were, in transactions at a time, and held idle for a second or longer."""
    if not watched:
        return ""
    inside = [sum(count for state, count in states.items() if state != "idle") for states in watched]
    most = max(sum(states.values()) for states in watched)
    held = max(states.get("held", 0) for states in watched)
    return f"connections {most}, {sum(inside) / len(inside):.1f} in use, {held} held"


def looking(bench: Bench) -> None:
    """A push while photos are looked at, beside one while nobody looks."""
    quiet, busy = [], []
    for repeat in range(bench.repeats):
        url = bench.databases.new()
        with serving(url) as server:
            tokens = bench.warm(server)
            push = phones.push, server.address, tokens
            numbers = bench.batches(bench.rows)
            quiet.append(bench.run(*push, bench.days(f"quiet {repeat}"), numbers).rate)
            which = Album(PHONE, f"looked at {repeat}", 3 * COUNT)
            bench.run(uploads.send, server.address, list(tokens.values()), which)
            began, before = time.perf_counter(), _unseen(url)
            busy.append(bench.run(*push, bench.days(f"busy {repeat}"), numbers).rate)
            left, seconds = _unseen(url), time.perf_counter() - began
            began = time.perf_counter()
            _wait_until_seen(url)
            alone_s = time.perf_counter() - began
        tell(
            f"push, {before} to {left} photos unseen",
            f"{busy[-1]:,.0f}/s",
            f"quiet {quiet[-1]:,.0f}/s",
            f"looks {(before - left) / seconds:,.1f}/s",
            f"alone {left / alone_s:,.1f}/s",
        )
    tell("push while photos are looked at", f"{median(busy):,.0f}/s", f"of the quiet {ratio(busy, quiet):.2f}")


PARTS: tuple[Callable[[Bench], None], ...] = (uploads_alone, derivatives, crowd, slow_lines, looking)
