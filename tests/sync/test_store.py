"""What is kept is whole, durable and never changed, in a folder as in a bucket of a real S3 server."""

from __future__ import annotations

import datetime as dt
import hashlib
import http.server
import multiprocessing
import os
import resource
import signal
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from sync.problems import Busy
from sync.store import PIECE_BYTES, Bucket, Folder, Store, derivative_key, part_key, photo_key
from tests import seaweed

BYTES = b"evidence"
SHA256 = hashlib.sha256(BYTES).hexdigest()
KEY = photo_key(SHA256)
PART = part_key("0" * 32)
MIB = 1024 * 1024


def keep(store: Store, key: str, data: bytes) -> None:
    with store.incoming() as file:
        file.write(data)
        store.keep(file, key)


def read(store: Store, key: str) -> bytes:
    with store.opened(key) as file:
        return file.read()


def keys(store: Store) -> set[str]:
    return {stored.key for stored in store.everything()}


# ---------------------------------------------------------------- either store


@pytest.mark.parametrize("size", [0, 1, PIECE_BYTES + 1])
def test_what_was_kept_is_read_again(either_store: Store, size: int) -> None:
    data = os.urandom(size)
    keep(either_store, KEY, data)
    assert (either_store.has(KEY), read(either_store, KEY)) == (True, data)


def test_what_is_opened_can_be_sought_in(either_store: Store) -> None:
    keep(either_store, KEY, BYTES)
    with either_store.opened(KEY) as file:
        assert file.seek(-4, os.SEEK_END) == 4
        assert (file.read(), file.seek(1), file.read(2)) == (BYTES[-4:], 1, BYTES[1:3])


def test_what_is_not_kept_leaves_nothing(either_store: Store) -> None:
    with either_store.incoming() as file:
        file.write(BYTES)
    assert (keys(either_store), either_store.has(KEY)) == (set(), False)


def test_what_is_given_up_half_way_leaves_nothing(either_store: Store) -> None:
    with suppress(ConnectionError), either_store.incoming() as file:
        file.write(BYTES)
        raise ConnectionError("the phone is gone")
    assert keys(either_store) == set()


def test_an_incoming_file_can_be_read_before_and_after_it_is_kept(either_store: Store) -> None:
    with either_store.incoming() as file:
        file.write(BYTES)
        file.seek(0)
        assert file.read() == BYTES
        either_store.keep(file, KEY)
        file.seek(0)
        assert file.read() == BYTES


def test_what_is_there_already_stays_as_it_is(either_store: Store) -> None:
    keep(either_store, KEY, BYTES)
    keep(either_store, KEY, b"something else")
    assert (read(either_store, KEY), keys(either_store)) == (BYTES, {KEY})


def test_two_who_keep_the_same_at_once_both_succeed(either_store: Store) -> None:
    ready, failed = threading.Barrier(2), []

    def send() -> None:
        try:
            with either_store.incoming() as file:
                file.write(BYTES)
                ready.wait()
                either_store.keep(file, KEY)
        except Exception as error:
            failed.append(error)

    threads = [threading.Thread(target=send) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (failed, read(either_store, KEY), keys(either_store)) == ([], BYTES, {KEY})


def test_everything_that_is_kept_is_listed_with_its_time(either_store: Store) -> None:
    expected = {KEY, PART, derivative_key(SHA256, "thumb")} | {part_key(f"{i:032x}") for i in range(60)}
    began_at = dt.datetime.now(dt.UTC)
    for key in expected:
        keep(either_store, key, BYTES)
    assert keys(either_store) == expected
    late = [
        stored for stored in either_store.everything() if abs(stored.stored_at - began_at) > dt.timedelta(minutes=1)
    ]
    assert late == []


def test_a_store_that_holds_nothing_lists_nothing(either_store: Store) -> None:
    assert list(either_store.everything()) == []


@pytest.mark.parametrize("key", [PART, derivative_key(SHA256, "thumb")])
def test_a_part_or_a_derivative_can_be_dropped_and_dropped_again(either_store: Store, key: str) -> None:
    keep(either_store, key, BYTES)
    either_store.drop(key)
    either_store.drop(key)
    assert (keys(either_store), either_store.has(key)) == (set(), False)


def test_a_photo_is_never_dropped(either_store: Store) -> None:
    keep(either_store, KEY, BYTES)
    with pytest.raises(ValueError, match="for ever"):
        either_store.drop(KEY)
    assert read(either_store, KEY) == BYTES


def test_what_is_missing_is_a_file_not_found(either_store: Store) -> None:
    keep(either_store, photo_key(SHA256[:-1] + "0"), BYTES)  # a neighbour in the same folder
    with pytest.raises(FileNotFoundError):
        read(either_store, KEY)
    assert not either_store.has(KEY)


def test_a_folder_that_keys_lie_in_is_nothing_that_is_kept(either_store: Store) -> None:
    keep(either_store, KEY, BYTES)
    assert not either_store.has(SHA256[:2])


def test_a_store_that_works_says_so_again_and_again(either_store: Store) -> None:
    keep(either_store, KEY, BYTES)
    either_store.check()
    either_store.check()
    assert {key for key in keys(either_store) if not key.startswith("incoming/")} == {KEY}


@contextmanager
def files_up_to(size: int) -> Iterator[None]:
    """No file of this process grows larger: a disk that is full, as far as it can tell."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, ignored)


def test_a_disk_that_takes_no_more_is_busy_and_keeps_no_half_file(either_store: Store) -> None:
    with pytest.raises(Busy), files_up_to(MIB):
        keep(either_store, KEY, bytes(2 * MIB))
    assert keys(either_store) == set()


# ---------------------------------------------------------------- large ones


@pytest.fixture
def elsewhere() -> Iterator[ProcessPoolExecutor]:
    """A process that has done nothing yet."""
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        yield pool


def test_twenty_megabytes_come_back_the_same(either_store: Store) -> None:
    data = os.urandom(20 * MIB)
    keep(either_store, KEY, data)
    assert hashlib.sha256(read(either_store, KEY)).digest() == hashlib.sha256(data).digest()


def test_a_large_object_passes_in_little_memory(s3: seaweed.Server, elsewhere: ProcessPoolExecutor) -> None:
    assert elsewhere.submit(grown_bytes, s3, 80 * MIB).result() < 30 * MIB


def grown_bytes(server: seaweed.Server, size: int) -> int:
    """By how much this process grew at most while an object of this size went to a bucket and came back."""
    store, sent, got = server.bucket("large"), hashlib.sha256(), hashlib.sha256()
    keep(store, part_key("1"), b"connected")
    before = peak_bytes()
    with store.incoming() as file:
        for _ in range(size // MIB):
            piece = os.urandom(MIB)
            sent.update(piece)
            file.write(piece)
        store.keep(file, PART)
    with store.opened(PART) as file:
        while piece := file.read(MIB):
            got.update(piece)
    assert got.digest() == sent.digest()
    return peak_bytes() - before


def test_many_objects_at_once_pass_in_bounded_memory(s3: seaweed.Server, elsewhere: ProcessPoolExecutor) -> None:
    """All 24 at once would take 325 MB."""
    assert elsewhere.submit(grown_bytes_of_many, s3, 24, 10 * MIB).result() < 220 * MIB


def grown_bytes_of_many(server: seaweed.Server, count: int, size: int) -> int:
    store, data = server.bucket("many"), os.urandom(size)
    keep(store, PART, b"connected")
    before = peak_bytes()
    with ThreadPoolExecutor(count) as pool:
        list(pool.map(lambda i: keep(store, part_key(f"1{i}"), data), range(count)))
    return peak_bytes() - before


def peak_bytes() -> int:
    """The most memory that this process ever had; `getrusage` would also tell of the one that started it."""
    (line,) = [line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM")]
    return int(line.split()[1]) * 1024


# ---------------------------------------------------------------- the folder


def test_a_stray_file_of_a_crash_is_listed_and_can_be_dropped(tmp_path: Path) -> None:
    store = Folder(tmp_path)
    (tmp_path / "incoming").mkdir()
    (tmp_path / "incoming" / "tmp1").write_bytes(BYTES)
    assert keys(store) == {"incoming/tmp1"}
    store.drop("incoming/tmp1")
    assert keys(store) == set()


def test_what_was_kept_in_the_same_moment_is_durable_before_anybody_is_told(tmp_path: Path) -> None:
    """Whoever kept it may have been killed between the rename and the disk: that it is there is not enough."""
    folder, synced = Folder(tmp_path), []

    def watch(_frame: Any, event: str, called: Any) -> None:
        if event == "c_call" and called is os.fsync:
            synced.append(event)

    keep(folder, KEY, BYTES)
    with folder.incoming() as file:
        file.write(BYTES)
        sys.setprofile(watch)
        folder.keep(file, KEY)
        sys.setprofile(None)
    assert synced


def test_a_folder_that_is_gone_does_not_pass_for_one_that_works(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        Folder(tmp_path / "gone").check()


# ---------------------------------------------------------------- the bucket


def test_a_prefix_is_a_store_of_its_own(s3: seaweed.Server) -> None:
    one, deeper = s3.bucket("shared/by"), s3.bucket("shared/by/none")
    keep(one, KEY, BYTES)
    assert (keys(one), keys(deeper), deeper.has(KEY)) == ({KEY}, set(), False)


def wrong_secret(server: seaweed.Server) -> Bucket:
    return server.bucket("wrong", secret="wrong-secret")


def unknown_key(server: seaweed.Server) -> Bucket:
    return server.bucket("wrong", key_id="nobody")


def missing_bucket(server: seaweed.Server) -> Bucket:
    return server.bucket("wrong", name="NoSuchBucket")


def nobody_there(_: seaweed.Server) -> Bucket:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    return seaweed.Server(f"http://127.0.0.1:{port}").bucket()


def look(store: Store) -> None:
    with store.opened(KEY):
        pass


TRIALS: dict[str, Callable[[Store], Any]] = {
    "keep": lambda store: keep(store, KEY, BYTES),
    "open": look,
    "drop": lambda store: store.drop(PART),
    "list": keys,
    "check": lambda store: store.check(),
}


@pytest.mark.parametrize("trial", TRIALS)
@pytest.mark.parametrize(
    ("made", "logged"),
    [
        (wrong_secret, "403"),
        (unknown_key, "403"),
        (missing_bucket, "NoSuchBucket"),
        (nobody_there, "error sending request"),
    ],
)
def test_a_bucket_that_refuses_or_is_away_is_busy_and_the_log_says_why(
    s3: seaweed.Server,
    made: Callable[[seaweed.Server], Bucket],
    logged: str,
    trial: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    with pytest.raises(Busy) as busy:
        TRIALS[trial](made(s3))
    assert "secret" not in str(busy.value)
    (line,) = [record.getMessage() for record in caplog.records]
    assert logged in line
    assert seaweed.SECRET not in line


class Faulty(http.server.ThreadingHTTPServer):
    """A service whose answers are those given, one after the other; the last one for ever."""

    daemon_threads = True

    def __init__(self, *answers: str) -> None:
        super().__init__(("127.0.0.1", 0), _Answer)
        self.answers = list(answers)

    def next_answer(self) -> str:
        return self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]

    @property
    def bucket(self) -> Bucket:
        return seaweed.Server(f"http://127.0.0.1:{self.server_port}").bucket()


class _Answer(http.server.BaseHTTPRequestHandler):
    server: Faulty

    def do_GET(self) -> None:
        answer = self.server.next_answer()
        self.send_response(503 if answer == "busy" else 200)
        self.send_header("Content-Length", str(len(BYTES)))
        self.send_header("Last-Modified", "Mon, 23 Nov 2026 08:15:00 GMT")
        self.send_header("ETag", "one")
        self.end_headers()
        self.wfile.write(BYTES[:3] if answer == "cut" else BYTES)

    def log_message(self, format: str, *args: Any) -> None:
        pass


@contextmanager
def faulty(*answers: str) -> Iterator[Bucket]:
    with Faulty(*answers) as server:
        serving = threading.Thread(target=server.serve_forever)
        serving.start()
        yield server.bucket
        server.shutdown()
        serving.join()


@pytest.mark.parametrize("answer", ["busy", "cut"])
def test_a_service_that_fails_again_and_again_is_busy(answer: str) -> None:
    with faulty(answer) as store, pytest.raises(Busy):
        read(store, KEY)


@pytest.mark.parametrize("answers", [("busy", "good"), ("busy", "busy", "good")])
def test_a_service_that_fails_now_and_then_is_asked_again(answers: tuple[str, ...]) -> None:
    with faulty(*answers) as store:
        assert read(store, KEY) == BYTES


def test_a_bucket_that_was_made_before_a_fork_works_after_it(
    s3: seaweed.Server, elsewhere: ProcessPoolExecutor
) -> None:
    assert elsewhere.submit(kept_by_a_child, s3).result() == BYTES


def kept_by_a_child(server: seaweed.Server) -> bytes:
    """What a forked child keeps in the bucket that its parent, such as gunicorn with `--preload`, has made."""
    store = server.bucket("forked")
    child = multiprocessing.get_context("fork").Process(target=keep, args=(store, KEY, BYTES))
    child.start()
    child.join(30)
    assert child.exitcode == 0
    return read(store, KEY)
