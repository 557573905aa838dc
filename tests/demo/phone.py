"""A phone that keeps its promise: the reference client, to be read by whoever writes the real app.

Nothing but the standard library. The rule it lives by: *what the server answered with 200 may be forgotten; everything
else is kept and sent again.* So whatever an officer does becomes an **operation** in the outbox, a file that survives a
crash, before anything touches the network. An operation is written once, as the very text that will be sent, however
often; only the envelope round it (`sent`, `next_n`, `unsent`) is made afresh for each attempt.

It forgets late: what was answered is kept a week longer, with its photos. A server that was restored from a backup has
forgotten too, and gets back from the phones what came after the backup.

Three parts: `Clock` (what the phone knows of time), `Line` (one HTTP request, answered or lost) and `Phone`.
Instants are ISO 8601 with a zone, durations in ms, positions longitude before latitude.
"""

from __future__ import annotations

import base64
import datetime as dt
import gzip
import hashlib
import http.client
import itertools
import json
import os
import random
import sqlite3
import time
import uuid
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from email.message import Message
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit

#: What one batch may hold (PROTOCOL.md): operations, and bytes before packing. The envelope gets what is left over.
BATCH_OPS = 1_000
BATCH_BYTES = 8 * 1024 * 1024 - 64 * 1024
#: How often a request is tried before the phone waits for better times, and how long it rests in between, s.
ATTEMPTS = 10
FIRST_REST_S, LONGEST_REST_S = 0.5, 60.0
#: Bodies smaller than this are not worth packing, bytes.
PACK_FROM_BYTES = 1_024
#: A photo goes up in stretches of so many bytes. The server keeps what arrived of one that was cut off.
STRETCH_BYTES = 256 * 1024
#: How long operations that were answered, and photos that were sent, are kept in case the server loses them.
KEPT_FOR = dt.timedelta(days=7)
#: What is asked of what a phone takes along: changes on a page.
PAGE_CHANGES = 1_000
#: Problems of a whole batch that a smaller batch may not have.
HALVE_AT = frozenset({"batch-too-large", "malformed", "envelope-invalid"})
CHINA = dt.timezone(dt.timedelta(hours=8))

Json = dict[str, Any]


class Lost(Exception):
    """No answer came, or not a whole one. The server may have done what it was asked, or not."""


class Offline(Exception):
    """Tried long enough for now. Everything is still in the outbox."""


class Refused(Exception):
    """The server said no in a way that only a person can change. Everything is still in the outbox."""


# ---------------------------------------------------------------- time


def utc_now() -> dt.datetime:
    return dt.datetime.now(dt.UTC)


@dataclass
class Clock:
    """The two clocks of a phone: a wall clock that anyone may set wrong, and a count of ms since the last boot.

    On Android: `System.currentTimeMillis()`, `SystemClock.elapsedRealtime()`, `Settings.Global.BOOT_COUNT`; on iOS:
    `Date()`, `mach_continuous_time()`, `kern.bootsessionuuid`. Here both follow `true`, which a simulation may replace;
    `wall_off` and `drift_ppm` make the wall clock wrong, nothing makes the count wrong but a reboot.
    """

    booted_at: dt.datetime
    boot: str = "1"
    wall_off: dt.timedelta = dt.timedelta(0)
    drift_ppm: float = 0.0
    has_gnss: bool = False
    true: Callable[[], dt.datetime] = utc_now

    def mono_ms(self) -> int:
        return (self.true() - self.booted_at) // dt.timedelta(milliseconds=1)

    def wall(self) -> dt.datetime:
        drift = (self.true() - self.booted_at) * (self.drift_ppm / 1_000_000)
        return self.true() + drift + self.wall_off

    def reboot(self, boot: str) -> None:
        """The count starts again from nothing, under another boot id."""
        self.boot, self.booted_at = boot, self.true()

    def stamp(self) -> Json:
        """This moment as the clocks tell it: what every operation carries as `at` and every batch as `sent`."""
        stamp: Json = {"wall": _iso(self.wall()), "mono_ms": self.mono_ms(), "boot": self.boot}
        if self.has_gnss:
            stamp["gnss"] = _iso(self.true())
        return stamp


def _iso(at: dt.datetime) -> str:
    return at.astimezone(CHINA).isoformat(timespec="milliseconds")


# ---------------------------------------------------------------- the line


class Answer(NamedTuple):
    """A whole answer: its status, headers, and its JSON (`{}` when it has none)."""

    status: int
    headers: Message
    json: Json

    @property
    def ok(self) -> bool:
        return self.status < 300

    @property
    def code(self) -> str:
        return str(self.json.get("code", self.status))


@dataclass(frozen=True)
class Line:
    """The way to one server: each request on a connection of its own, so that a dead one is never taken for alive."""

    server: str
    timeout_s: float = 30.0

    def ask(self, method: str, path: str, body: bytes | None, headers: Mapping[str, str]) -> Answer:
        """The answer. Raises `Lost` when the connection, or the answer, broke off."""
        where = urlsplit(self.server)
        connect = http.client.HTTPSConnection if where.scheme == "https" else http.client.HTTPConnection
        try:
            with closing(connect(where.netloc, timeout=self.timeout_s)) as connection:
                connection.response_class = _Response
                connection.request(method, path, body, {**headers, "Connection": "close"})
                response = connection.getresponse()
                return Answer(response.status, response.headers, _json_of(response))
        except (OSError, EOFError, zlib.error, http.client.HTTPException, ValueError) as broken:
            raise Lost(f"{method} {path}: {broken!r}") from broken


class _Response(http.client.HTTPResponse):
    """An answer with a whole head. Python's own takes one that broke off amid its headers for whole; few others do."""

    def begin(self) -> None:
        lines: Any = _Lines(self.fp)
        self.fp = lines
        super().begin()
        self.fp = lines.file
        if lines.last.strip():
            raise http.client.IncompleteRead(lines.last)


class _Lines:
    """A file that remembers the line that was read last."""

    def __init__(self, file: Any) -> None:
        self.file = file
        self.last = b""

    def readline(self, most: int = -1) -> bytes:
        line: bytes = self.file.readline(most)
        self.last = line or self.last
        return line

    def __getattr__(self, name: str) -> Any:
        return getattr(self.file, name)


def _json_of(response: http.client.HTTPResponse) -> Json:
    """What the answer says. Raises one of what `Line.ask` takes for a loss when it is not whole."""
    content = response.read()
    if response.headers.get("Content-Encoding") == "gzip":
        content = gzip.decompress(content)
    if not content or "json" not in response.headers.get_content_type():
        return {}
    answer = json.loads(content)
    return answer if isinstance(answer, dict) else {}


# ---------------------------------------------------------------- the phone

_TABLES = """
CREATE TABLE IF NOT EXISTS settings (key TEXT PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS outbox   (n INTEGER PRIMARY KEY, op TEXT, kind TEXT, record TEXT, text TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS answers  (n INTEGER PRIMARY KEY, op TEXT, kind TEXT, record TEXT, result TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS records  (record TEXT PRIMARY KEY, noun TEXT NOT NULL, version INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS photos   (sha256 TEXT PRIMARY KEY, type TEXT NOT NULL, record TEXT, state TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS uploads  (sha256 TEXT PRIMARY KEY, bytes INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS sent     (n INTEGER PRIMARY KEY, text TEXT NOT NULL, sent_at_s INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS sent_photos (sha256 TEXT PRIMARY KEY, sent_at_s INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS told     (type TEXT, id TEXT, pull INTEGER NOT NULL, data TEXT NOT NULL,
                                     PRIMARY KEY (type, id));
"""


class Waiting(NamedTuple):
    """An operation in the outbox; `text` is its JSON, sent as it stands."""

    n: int
    op: str
    kind: str
    record: str
    text: str


class Answered(NamedTuple):
    """What the server said of one operation."""

    n: int
    op: str
    kind: str
    record: str
    result: Json


class Returned(NamedTuple):
    """A record of the officer's that a supervisor wants changed."""

    record: str
    noun: str
    comment: str
    by: str


@dataclass
class Phone:
    """One installation of the app. Everything it must not lose is in the file `outbox`.

    `ask_password` stands for the sign-in page: the password is asked for and never kept. `rest` waits that many
    seconds. `sending` is told a photo's SHA-256, how many of its bytes the server holds for good, and how many it has.
    """

    outbox: Path
    line: Line
    clock: Clock
    username: str
    ask_password: Callable[[], str]
    app: str = "3.2.1"
    batch_ops: int = BATCH_OPS
    page_changes: int = PAGE_CHANGES
    newest_first: bool = False
    rest: Callable[[float], None] = time.sleep
    sending: Callable[[str, int, int], object] = lambda sha256, held, length: None
    _file: sqlite3.Connection = field(init=False)

    def __post_init__(self) -> None:
        self._file = sqlite3.connect(self.outbox, check_same_thread=False)
        self._file.execute("PRAGMA synchronous = FULL")
        self._file.executescript(_TABLES)
        with self._file:
            self._file.execute("INSERT OR IGNORE INTO settings VALUES ('install', ?)", [str(uuid.uuid4())])

    def close(self) -> None:
        self._file.close()

    # ------------------------------------------------ what an officer does

    def start_patrol(self, officers: Sequence[str], township: str, *, fix: Json | None = None, **body: Any) -> str:
        """A patrol by these accounts; its record id."""
        body |= {"officers": list(officers), "township": township, "started": self._at()}
        return self.create("patrol", body, fix=fix)

    def end_patrol(self, patrol: str) -> None:
        self.amend(patrol, {"ended": self._at()})

    def record_incident(
        self, patrol: str, items: Sequence[str], *, fix: Json | None = None, photos: Sequence[Json] = (), **body: Any
    ) -> str:
        """One thing seen at one place and time; its record id. `photos` are what `take_photo` returned."""
        return self.create("incident", {"patrol": patrol, "items": list(items), **body}, fix=fix, photos=photos)

    def warn(self, incident: str, step: str, *, fix: Json | None = None, **body: Any) -> str:
        """What a vendor was told because of an incident; its record id."""
        return self.create("warning", {"incident": incident, "step": step, **body}, fix=fix)

    def append_track(self, patrol: str, points: Sequence[Sequence[float | None]], crs: str) -> None:
        """A stretch of the patrol's way: points of [lon, lat, mono_ms or null, accuracy_m or null]."""
        self.add("track.append", patrol, body={"crs": crs, "points": [list(point) for point in points]})

    def amend(self, record: str, fields: Json, photos: Sequence[Json] = ()) -> None:
        """Other values for some fields of a record, made on the version that the server last told of.

        It is 1 for a record of ours that was not answered yet. What this phone did since is understood: its own
        amends never conflict with each other, however many there are and in whatever order they arrive.
        """
        noun, version = self._known(record)
        more: Json = {"photos": list(photos)} if photos else {}
        self.add(f"{noun}.amend", record, base=version, set=fields, **more)

    def void(self, record: str, reason: str) -> None:
        noun, _ = self._known(record)
        self.add(f"{noun}.void", record, reason=reason)

    def take_photo(self, content: bytes, role: str, type: str = "image/jpeg") -> Json:
        """The photo is kept as a file; returned is what a record says of it."""
        sha256 = hashlib.sha256(content).hexdigest()
        _write_safely(self.photo_file(sha256), content)
        with self._file:
            self._file.execute("INSERT OR IGNORE INTO photos VALUES (?, ?, NULL, 'here')", [sha256, type])
        return {"sha256": sha256, "bytes": len(content), "type": type, "role": role}

    def photo_file(self, sha256: str) -> Path:
        return self.outbox.with_suffix(".photos") / sha256

    def create(self, noun: str, body: Json, *, fix: Json | None = None, photos: Sequence[Json] = ()) -> str:
        record = str(uuid.uuid4())
        more: Json = {"photos": list(photos)} if photos else {}
        self.add(f"{noun}.create", record, body=body, fix=fix, **more)
        return record

    def add(self, kind: str, record: str, *, op: str | None = None, **content: Any) -> str:
        """One more operation in the outbox, written once and for all; its id.

        Its counter `n` is taken in the same transaction: a crash leaves neither a gap nor a counter used twice.
        """
        op = op or str(uuid.uuid4())
        with self._file:
            n = self.next_n
            operation = {"op": op, "n": n, "kind": kind, "record": record, "at": self._at(), **content}
            self._set("next_n", str(n + 1))
            text = json.dumps(operation, ensure_ascii=False, separators=(",", ":"))
            self._file.execute("INSERT INTO outbox VALUES (?, ?, ?, ?, ?)", [n, op, kind, record, text])
            if kind.endswith(".create"):
                self._file.execute("INSERT INTO records VALUES (?, ?, 1)", [record, kind.split(".")[0]])
            photos = [(record, photo["sha256"]) for photo in content.get("photos", ())]
            self._file.executemany("UPDATE photos SET record = ? WHERE sha256 = ?", photos)
        return op

    def exported(self) -> list[Json]:
        """Every operation that is still here, sent or not: what an officer saves to a file as the last resort."""
        rows = self._file.execute("SELECT n, text FROM outbox UNION SELECT n, text FROM sent ORDER BY n")
        return [json.loads(text) for _, text in rows]

    def _known(self, record: str) -> tuple[str, int]:
        row = self._file.execute("SELECT noun, version FROM records WHERE record = ?", [record]).fetchone()
        return str(row[0]), int(row[1])

    def _at(self) -> Json:
        """This moment, with the server's time that was kept in this boot, if there is one."""
        stamp = self.clock.stamp()
        anchor = json.loads(self._setting("anchor", "{}"))
        if anchor.get("boot") == self.clock.boot:
            stamp["anchor"] = {"server": anchor["server"], "mono_ms": anchor["mono_ms"]}
        return stamp

    # ------------------------------------------------ signing in

    def sign_in(self) -> None:
        """Tokens for this installation are kept. Raises `Refused` when the password or the account is not right."""
        who = {"username": self.username, "password": self.ask_password(), "install": self.install}
        answer = self._persist(lambda: self._ask("POST", "/api/v1/auth/login", who))
        if not answer.ok:
            raise Refused(answer.code)
        self._keep_tokens(answer)

    def _renew(self) -> None:
        """A fresh access token; when the refresh token is of no use either, the officer signs in again."""
        refresh = {"Authorization": f"Bearer {self._setting('refresh_token', '')}"}
        answer = self._ask("POST", "/api/v1/auth/refresh", None, refresh)
        if answer.ok:
            self._keep_tokens(answer)
        else:
            self.sign_in()

    def _keep_tokens(self, answer: Answer) -> None:
        with self._file:
            self._set("access_token", answer.json["access_token"])
            self._set("refresh_token", answer.json["refresh_token"])

    # ------------------------------------------------ sending

    def sync(self) -> None:
        """Everything in the outbox has been answered and every photo the server still misses has been sent.

        Raises `Offline` or `Refused` when that was not to be had; what was not answered is still in the outbox.
        """
        self._send_waiting()
        if self._lost_by_the_server():
            self._compare()
            self._send_waiting()
        self._send_photos()

    def exchange(self) -> None:
        """Everything was sent, and what has changed meanwhile was taken along.

        The empty batch asks what the server misses, even if there is nothing to send. Raises `Offline`, `Refused`.
        """
        self._deliver([])
        self.sync()
        self.pull()

    def _send_waiting(self) -> None:
        for batch in self._batches():
            self._deliver(batch)

    @property
    def next_n(self) -> int:
        """The counter that the next operation will have."""
        return int(self._setting("next_n", "1"))

    def waiting(self) -> list[Waiting]:
        """The outbox, in the order of the counters."""
        return [Waiting(*row) for row in self._file.execute("SELECT * FROM outbox ORDER BY n")]

    def _batches(self) -> Iterator[list[Waiting]]:
        batch: list[Waiting] = []
        size = 0
        for waiting in reversed(self.waiting()) if self.newest_first else self.waiting():
            length = len(waiting.text.encode()) + 1
            if batch and (len(batch) == self.batch_ops or size + length > BATCH_BYTES):
                yield batch
                batch, size = [], 0
            batch.append(waiting)
            size += length
        if batch:
            yield batch

    def _deliver(self, ops: list[Waiting]) -> None:
        """These operations were answered; a batch that is refused as a whole goes again as two halves.

        One operation that is refused all by itself stays in the outbox, declared unsent, and delays nobody.
        """
        batch = str(uuid.uuid4())
        answer = self._persist(
            lambda: self._signed(lambda: self._push(batch, ops)),
            again=lambda: self._signed(lambda: self._ask_or_push(batch, ops)),
        )
        if answer.ok:
            self._settle(ops, answer.json)
        elif answer.code not in HALVE_AT:
            raise Refused(answer.code)
        elif len(ops) > 1:
            middle = len(ops) // 2
            self._deliver(ops[:middle])
            self._deliver(ops[middle:])

    def _push(self, batch: str, ops: list[Waiting]) -> Answer:
        head: Json = {"batch": batch, "install": self.install, "app": self.app, "sent": self._at()}
        head |= {"next_n": self.next_n, "unsent": self._unsent(ops)}
        start = json.dumps(head, separators=(",", ":")).removesuffix("}")
        body = f'{start},"ops":[{",".join(waiting.text for waiting in ops)}]}}'
        return self._send("POST", "/api/v1/sync/batches", body.encode(), "application/json")

    def _ask_or_push(self, batch: str, ops: list[Waiting]) -> Answer:
        """After a lost answer: the receipt, if the server got the batch; else the same operations once more."""
        receipt = self._ask("GET", f"/api/v1/sync/batches/{batch}", None, self._bearer())
        return self._push(batch, ops) if receipt.status == 404 else receipt

    def _unsent(self, ops: list[Waiting]) -> list[list[int]]:
        """The counters that exist but are not in this batch, as closed ranges."""
        going = {waiting.n for waiting in ops}
        return _ranges(waiting.n for waiting in self.waiting() if waiting.n not in going)

    def _settle(self, ops: list[Waiting], receipt: Json) -> None:
        """What was answered leaves the outbox and its answer is kept, in one transaction: a crash does both or none.

        Photos that the server asks for though they were sent are to be sent again: it was restored from a backup.
        """
        heard_at_s = int(dt.datetime.fromisoformat(receipt["received_at"]).timestamp())
        with self._file:
            for waiting, result in zip(ops, receipt["results"], strict=True):
                row = [waiting.n, waiting.op, waiting.kind, waiting.record, json.dumps(result, ensure_ascii=False)]
                self._file.execute("INSERT OR REPLACE INTO answers VALUES (?, ?, ?, ?, ?)", row)
                kept = [waiting.n, waiting.text, heard_at_s]
                self._file.execute("INSERT OR REPLACE INTO sent VALUES (?, ?, ?)", kept)
                self._file.execute("DELETE FROM outbox WHERE n = ?", [waiting.n])
                self._learn(waiting.record, result)
            self._set("holes", json.dumps(receipt.get("holes", [])))
            self._set("photos_needed", json.dumps(receipt.get("photos_needed", [])))
            self._set("heard_at_s", str(heard_at_s))
            for sha256 in receipt.get("photos_needed", []):
                if self.photo_file(sha256).exists():
                    again = "UPDATE photos SET state = 'here' WHERE sha256 = ? AND state = 'sent'"
                    self._file.execute(again, [sha256])
        self._forget(heard_at_s - KEPT_FOR // dt.timedelta(seconds=1))

    def _forget(self, before_s: int) -> None:
        """What was sent before this second, by the server's clock, is no longer kept."""
        old = "FROM sent_photos WHERE sent_at_s < ?"
        for (sha256,) in self._file.execute(f"SELECT sha256 {old}", [before_s]).fetchall():
            self.photo_file(sha256).unlink(missing_ok=True)
        with self._file:
            self._file.execute(f"DELETE {old}", [before_s])
            self._file.execute("DELETE FROM sent WHERE sent_at_s < ?", [before_s])

    def _learn(self, record: str, result: Json) -> None:
        """The record's version by the server: what the next amend is made on."""
        if result.get("version") is not None:
            learnt = "UPDATE records SET version = MAX(version, ?) WHERE record = ?"
            self._file.execute(learnt, [result["version"], record])

    # ------------------------------------------------ photos

    def _send_photos(self) -> None:
        """Each photo that is needed, or was begun: the answer to its last bytes may have been lost."""
        begun = {str(row[0]) for row in self._file.execute("SELECT sha256 FROM uploads")}
        needed = begun | set(self.photos_needed)
        for sha256, type, _ in self.photos("here"):
            if sha256 in needed:
                self._send_photo(sha256, type, begun=sha256 in begun)

    def _send_photo(self, sha256: str, type: str, *, begun: bool) -> None:
        """The photo is the server's now; or its bytes no longer are what the record announced, and it is set aside.

        `held` is what the server holds for good, bytes; `None` if it knows nothing of the photo. The first stretch
        comes with the creation (tus's creation-with-upload): a small photo then takes one request, as by PUT, and what
        arrived of it stays when it is cut off. After any trouble, and in an app that was killed, the server says how
        far it is.
        """
        length = self._begin(sha256)
        held = _held(self._persist(lambda: self._signed(lambda: self._ask_held(sha256))), None) if begun else None
        setbacks = 0
        while held is None or held < length:
            if self.photo_file(sha256).stat().st_size != length:
                self._photo_is(sha256, "damaged")
                return
            answer = self._go_on(sha256, type, held, length)
            if not self._is_to_go_on(sha256, answer):
                return
            before, held = held or 0, _held(answer, held)
            setbacks = 0 if (held or 0) > before else setbacks + 1
            if setbacks == ATTEMPTS:
                raise Offline(f"a photo did not get any further in {ATTEMPTS} attempts")
            self.sending(sha256, held or 0, length)
        self._photo_is(sha256, "sent")

    def _begin(self, sha256: str) -> int:
        """It is on the disk that the photo is being sent; its length by then."""
        length = self.photo_file(sha256).stat().st_size
        with self._file:
            self._file.execute("INSERT OR IGNORE INTO uploads VALUES (?, ?)", [sha256, length])
        (begun,) = self._file.execute("SELECT bytes FROM uploads WHERE sha256 = ?", [sha256]).fetchone()
        return int(begun)

    def _go_on(self, sha256: str, type: str, held: int | None, length: int) -> Answer:
        """The answer to the next stretch; if that got lost, or is late, to the question how far the server is."""
        return self._persist(
            lambda: self._signed(lambda: self._send_stretch(sha256, type, held, length)),
            again=lambda: self._signed(lambda: self._ask_held(sha256)),
        )

    def _is_to_go_on(self, sha256: str, answer: Answer) -> bool:
        """Whether the photo is sent further after this answer, from wherever the server is.

        404 begins again, 409 goes on from another offset, 460 repeats a stretch that was garbled. After any other
        refusal the file may turn out damaged; if it is not, and its bytes arrived as others, the next `sync` sends them
        again. Raises `Refused` when no photo would be taken.
        """
        if answer.ok or answer.status in (404, 409, 460):
            return True
        if answer.status == 403:
            raise Refused(answer.code)
        if _sha256_of(self.photo_file(sha256)) != sha256:
            self._photo_is(sha256, "damaged")
        elif answer.code != "photo-digest-mismatch":
            self._photo_is(sha256, "refused")
        return False

    def _send_stretch(self, sha256: str, type: str, held: int | None, length: int) -> Answer:
        with self.photo_file(sha256).open("rb") as file:
            file.seek(held or 0)
            stretch = file.read(min(STRETCH_BYTES, length - (held or 0)))
        headers = {"Content-Type": "application/offset+octet-stream", "Upload-Checksum": f"sha256 {_digest(stretch)}"}
        if held is None:
            headers["Upload-Length"] = str(length)
            headers["Upload-Metadata"] = f"sha256 {_base64(sha256.encode())},filetype {_base64(type.encode())}"
            return self._tus("POST", "/api/v1/uploads", stretch, headers)
        return self._tus("PATCH", f"/api/v1/uploads/{sha256}", stretch, headers | {"Upload-Offset": str(held)})

    def _ask_held(self, sha256: str) -> Answer:
        return self._tus("HEAD", f"/api/v1/uploads/{sha256}", None, {})

    def _tus(self, method: str, path: str, content: bytes | None, headers: Mapping[str, str]) -> Answer:
        return self._request(method, path, content, {**self._bearer(), "Tus-Resumable": "1.0.0", **headers})

    def _photo_is(self, sha256: str, state: str) -> None:
        with self._file:
            self._file.execute("UPDATE photos SET state = ? WHERE sha256 = ?", [state, sha256])
            self._file.execute("DELETE FROM uploads WHERE sha256 = ?", [sha256])
            if state == "sent":
                row = [sha256, int(self._setting("heard_at_s", "0"))]
                self._file.execute("INSERT OR REPLACE INTO sent_photos VALUES (?, ?)", row)

    # ------------------------------------------------ what the server lost

    def _lost_by_the_server(self) -> bool:
        """Whether the server takes for lost what it has answered: it was restored from a backup."""
        kept = {int(n) for (n,) in self._file.execute("SELECT n FROM sent")}
        return any(first <= n <= last for first, last in self.holes for n in kept)

    def _compare(self) -> None:
        """What this phone still has of all it sent, and the server has not, is in the outbox again, word for word."""
        kept = [int(n) for (n,) in self._file.execute("SELECT n FROM sent ORDER BY n")]
        known = {operation["n"] for operation in self.look_up(kept[0])} if kept else set()
        with self._file:
            for n in set(kept) - known:
                taken = "SELECT n, op, kind, record, text FROM sent JOIN answers USING (n) WHERE n = ?"
                self._file.execute(f"INSERT OR IGNORE INTO outbox {taken}", [n])
                self._file.execute("DELETE FROM sent WHERE n = ?", [n])
            self._set("compare", "")

    # ------------------------------------------------ taking along

    def pull(self) -> None:
        """What this account is told has been taken along as it is now: lists, vendors, warnings, its own records.

        Each page and the cursor behind it are kept in one transaction, so that a pull that broke off goes on from
        there. Where the cursor leads nowhere any more all is told again, and what was not, is forgotten at the end. It
        may be that the server was restored from a backup: so it is asked what it has of ours, and sent what it lost.
        Raises `Offline`, `Refused`.
        """
        more = True
        while more:
            if self._setting("compare", ""):
                self._compare()
                self._deliver([])
                self.sync()
            answer = self._persist(lambda: self._signed(self._ask_changes))
            if answer.status == 410:
                self._begin_again()
            elif answer.status == 304:
                more = False
            elif answer.ok:
                self._take(answer)
                more = answer.json["more"]
            else:
                raise Refused(answer.code)

    def _ask_changes(self) -> Answer:
        cursor, etag = self._setting("cursor", ""), self._setting("etag", "")
        headers = {**self._bearer(), "Accept-Encoding": "gzip"} | ({"If-None-Match": etag} if etag else {})
        query = f"limit={self.page_changes}" + (f"&cursor={cursor}" if cursor else "")
        return self._request("GET", f"/api/v1/sync/changes?{query}", None, headers)

    def _begin_again(self) -> None:
        """The next page is the first of all; the outbox stays as it is."""
        with self._file:
            self._set("pull", str(self._pull + 1))
            self._file.execute("DELETE FROM settings WHERE key IN ('cursor', 'etag')")
            self._set("compare", "yes")

    def _take(self, page: Answer) -> None:
        with self._file:
            for change in page.json["changes"]:
                self._apply(change)
            self._set("cursor", page.json["cursor"])
            self._set("etag", page.headers.get("ETag", ""))
            if not page.json["more"]:
                self._file.execute("DELETE FROM told WHERE pull < ?", [self._pull])

    def _apply(self, change: Json) -> None:
        """A version told here is the record's, also where it is less than that of a receipt: of before a restore."""
        type, id = change["type"], change["id"]
        if change["op"] == "delete":
            self._file.execute("DELETE FROM told WHERE type = ? AND id = ?", [type, id])
            return
        row = [type, id, self._pull, json.dumps(change["data"], ensure_ascii=False)]
        self._file.execute("INSERT OR REPLACE INTO told VALUES (?, ?, ?, ?)", row)
        if change["data"].get("own"):
            self._file.execute("INSERT OR REPLACE INTO records VALUES (?, ?, ?)", [id, type, change["data"]["version"]])

    @property
    def _pull(self) -> int:
        """How often the phone has begun to pull from the beginning."""
        return int(self._setting("pull", "1"))

    def told(self, type: str) -> dict[str, Json]:
        """What the phone holds of one type, by id, as it was told last."""
        rows = self._file.execute("SELECT id, data FROM told WHERE type = ? ORDER BY id", [type])
        return {id: json.loads(data) for id, data in rows}

    def shown(self, noun: str, record: str) -> Json:
        """A record as the officer sees it: as it was told last, and on top what was not sent yet."""
        shown = self.told(noun).get(record, {})
        for waiting in self.waiting():
            if waiting.record == record:
                said = json.loads(waiting.text)
                shown |= said.get("body") or said.get("set") or {}
        return shown

    def returned(self) -> list[Returned]:
        """Own records to be changed, and why. One whose amend waits in the outbox is done with."""
        amended = {waiting.record for waiting in self.waiting() if waiting.kind.endswith(".amend")}
        found = []
        for noun in ("patrol", "incident", "warning"):
            for record, data in self.told(noun).items():
                review = data.get("review", {})
                if data["own"] and review.get("state") == "returned" and record not in amended:
                    found.append(Returned(record, noun, review["comment"], review["by"]["full_name"]))
        return found

    def decided(self) -> dict[str, Json]:
        """What a person decided on operations of this officer, by the operation's id."""
        return {str(each["op"]): each["decision"] for each in self.told("operation").values() if each["decision"]}

    def earlier_warnings(self, sought: str) -> list[Json]:
        """What vendors were told before, the latest first: of a name or a stall that holds this, or a telephone.

        Telephones are masked: a whole number fits if its digits that are shown do, a part only at the end.
        """
        found = [warning for warning in self.told("warning").values() if _is_sought(warning["vendor"] or {}, sought)]
        return sorted(found, key=lambda warning: str(warning["occurred"]["at"]), reverse=True)

    # ------------------------------------------------ what the officer is shown

    def look_up(self, first: int = 1) -> list[Json]:
        """What the server holds of this installation, by counter, as it stands now: some were held and have joined."""
        found: list[Json] = []
        for n_from in range(first, self.next_n, BATCH_OPS):
            query = f"install={self.install}&n_from={n_from}&n_to={n_from + BATCH_OPS - 1}"
            found += self.get(f"/api/v1/sync/operations?{query}").json["operations"]
        return found

    @property
    def install(self) -> str:
        return self._setting("install", "")

    @property
    def holes(self) -> list[list[int]]:
        """Counters this installation used whose operations are neither here nor there: something was lost."""
        return list(json.loads(self._setting("holes", "[]")))

    @property
    def photos_needed(self) -> list[str]:
        """Photos the server still misses, by their SHA-256."""
        sent = {sha256 for sha256, _, _ in self.photos("sent")}
        return [sha256 for sha256 in json.loads(self._setting("photos_needed", "[]")) if sha256 not in sent]

    def photos(self, state: str) -> list[tuple[str, str, str]]:
        """(SHA-256, type, record) of the photos that are `here`, were `sent`, turned out `damaged` or are `refused`."""
        return list(self._file.execute("SELECT sha256, type, record FROM photos WHERE state = ?", [state]))

    def answers(self, record: str | None = None) -> list[Answered]:
        """What the server said, of one record or of all, in the order of the counters."""
        where, values = ("WHERE record = ?", [record]) if record else ("", [])
        rows = self._file.execute(f"SELECT * FROM answers {where} ORDER BY n", values)
        return [Answered(n, op, kind, name, json.loads(result)) for n, op, kind, name, result in rows]

    # ------------------------------------------------ one request, and how it is repeated

    def get(self, path: str) -> Answer:
        """What the server shows this account at a path. Raises `Refused` when it shows nothing."""
        answer = self._persist(lambda: self._signed(lambda: self._ask("GET", path, None, self._bearer())))
        if not answer.ok:
            raise Refused(f"{answer.code}: GET {path}")
        return answer

    def _persist(self, request: Callable[[], Answer], again: Callable[[], Answer] | None = None) -> Answer:
        """The first answer that decides something; what was lost or put off is tried again, resting longer each time.

        `again` is how to repeat, if not by the same request. Raises `Offline` after `ATTEMPTS`.
        """
        for attempt in range(ATTEMPTS):
            try:
                answer = again() if attempt and again else request()
                if not _put_off(answer):
                    return answer
            except Lost:
                answer = None
            rest_s = _rest_s(attempt, answer)
            if rest_s > LONGEST_REST_S:
                raise Offline(f"the server asks to come back in {rest_s:.0f} s")
            self.rest(rest_s)
        raise Offline(f"no answer after {ATTEMPTS} attempts")

    def _signed(self, request: Callable[[], Answer]) -> Answer:
        """The answer to a request that carries the access token, renewed when it has become too old."""
        answer = request()
        if answer.status != 401:
            return answer
        self._renew()
        return request()

    def _bearer(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self._setting('access_token', '')}"}

    def _send(self, method: str, path: str, content: bytes, type: str) -> Answer:
        """Send content signed in, packed when that helps, with the digest of what goes over the wire (RFC 9530)."""
        headers = {**self._bearer(), "Content-Type": type}
        if type == "application/json" and len(content) >= PACK_FROM_BYTES:
            content = gzip.compress(content, mtime=0)
            headers["Content-Encoding"] = "gzip"
        return self._request(method, path, content, headers | {"Content-Digest": f"sha-256=:{_digest(content)}:"})

    def _ask(self, method: str, path: str, body: Json | None, headers: Mapping[str, str] | None = None) -> Answer:
        content = None if body is None else json.dumps(body).encode()
        return self._request(method, path, content, {"Content-Type": "application/json", **(headers or {})})

    def _request(self, method: str, path: str, content: bytes | None, headers: Mapping[str, str]) -> Answer:
        before = self.clock.mono_ms()
        answer = self.line.ask(method, path, content, headers)
        self._take_anchor(answer, (before + self.clock.mono_ms()) // 2)
        return answer

    def _take_anchor(self, answer: Answer, mono_ms: int) -> None:
        """The server's time in this boot is kept: to the ms from a sign-in, else to half a second from `Date`.

        Not from a receipt: that of a repeated batch tells when the first copy arrived.
        """
        known = json.loads(self._setting("anchor", "{}"))
        server = answer.json.get("server_time")
        if server is None and known.get("boot") != self.clock.boot and "Date" in answer.headers:
            date = parsedate_to_datetime(answer.headers["Date"])
            server = (date + dt.timedelta(milliseconds=500)).isoformat(timespec="milliseconds")
        if server is not None:
            with self._file:
                self._set("anchor", json.dumps({"boot": self.clock.boot, "server": server, "mono_ms": mono_ms}))

    def _setting(self, key: str, default: str) -> str:
        row = self._file.execute("SELECT value FROM settings WHERE key = ?", [key]).fetchone()
        return default if row is None else str(row[0])

    def _set(self, key: str, value: str) -> None:
        self._file.execute("INSERT OR REPLACE INTO settings VALUES (?, ?)", [key, value])


def _write_safely(file: Path, content: bytes) -> None:
    """The file is on the disk before anything speaks of it."""
    file.parent.mkdir(exist_ok=True)
    with file.open("wb") as open_file:
        open_file.write(content)
        open_file.flush()
        os.fsync(open_file.fileno())


def _sha256_of(file: Path) -> str:
    with file.open("rb") as open_file:
        return hashlib.file_digest(open_file, "sha256").hexdigest()


def _digest(content: bytes) -> str:
    return _base64(hashlib.sha256(content).digest())


def _base64(content: bytes) -> str:
    return base64.b64encode(content).decode()


def _held(answer: Answer, before: int | None) -> int | None:
    """How many bytes of a photo the server holds for good by this answer."""
    if answer.status == 404:
        return None
    told = str(answer.headers.get("Upload-Offset", ""))
    return int(told) if told.isdigit() else before


def _put_off(answer: Answer) -> bool:
    """Whether the same request may fare better later: the server is busy or broken, another request of ours still
    holds the photo, or the way garbled the bytes."""
    return answer.status >= 500 or answer.status in (423, 429) or answer.code in ("body-truncated", "digest-mismatch")


def _rest_s(attempt: int, answer: Answer | None) -> float:
    """Longer each time and never the same for two phones; not before the server's `Retry-After`."""
    rest_s = min(LONGEST_REST_S, FIRST_REST_S * 2.0**attempt) * random.uniform(0.5, 1.0)
    asked = str(answer.headers.get("Retry-After", "")) if answer else ""
    return max(rest_s, float(asked) if asked.isdigit() else 0.0)


def _is_sought(vendor: Json, sought: str) -> bool:
    telephone, digits = str(vendor.get("phone") or ""), "".join(filter(str.isdigit, sought))
    if digits and digits == sought:
        fits = all(shown in (asked, "*") for asked, shown in zip(digits, telephone, strict=False))
        return telephone.endswith(digits) or (fits and len(digits) == len(telephone))
    return bool(sought) and any(sought in str(vendor.get(name) or "") for name in ("name", "stall"))


def _ranges(numbers: Iterable[int]) -> list[list[int]]:
    """Closed ranges of numbers that come in order."""
    ranges = []
    for _, run in itertools.groupby(enumerate(numbers), lambda pair: pair[1] - pair[0]):
        members = [number for _, number in run]
        ranges.append([members[0], members[-1]])
    return ranges
