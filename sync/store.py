"""Where bytes are kept: under keys, written once, never changed. A folder, or a bucket of an S3-compatible service.

What has a key is complete and durable. Keys are made by `photo_key`, `derivative_key`, `part_key` and `export_key`, so
that all else knows a photo by its SHA-256 only. Photos are never deleted; parts of uploads, derivatives and files that
were asked for can be.
"""

from __future__ import annotations

import datetime as dt
import errno
import logging
import os
import stat
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import IO, Protocol

from obstore.exceptions import BaseError
from obstore.store import S3Store

from sync.problems import Busy

#: Read at once, bytes.
PIECE_BYTES = 256 * 1024

#: Larger objects go to a bucket in pieces of this many bytes: the least that S3 takes.
_BUCKET_PIECE_BYTES = 5 * 1024 * 1024
#: What one process sends to a bucket at once: each takes up to 20 MB of memory, measured; others wait for their turn.
_BUCKET_SENDINGS = 8
#: How long to wait for a bucket: for a connection; for one request with its bytes; to begin with a request once more.
_CONNECT_WITHIN = dt.timedelta(seconds=5)
_ANSWER_WITHIN = dt.timedelta(seconds=30)
_RETRY_WITHIN = dt.timedelta(seconds=10)
_RETRIES = 3

#: A disk that takes no more for now.
_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EIO}

_LOG = logging.getLogger(__name__)


def photo_key(sha256: str) -> str:
    """Where the photo of this name is kept. Two levels, so that no folder grows too long to list."""
    return f"{sha256[:2]}/{sha256[2:4]}/{sha256}"


def derivative_key(sha256: str, size: str) -> str:
    """Where what was made of a photo is kept: `size` is `thumb` or `screen`."""
    return f"derived/{size}/{photo_key(sha256)}.jpg"


def part_key(key: str) -> str:
    """Where a part of an unfinished upload is kept."""
    return f"parts/{key[:2]}/{key}"


def export_key(name: str) -> str:
    """Where a file that was asked for is kept until it expires."""
    return f"exports/{name[:2]}/{name}"


@dataclass(frozen=True, slots=True)
class Stored:
    """Something that is kept, as the store lists it. `stored_at` is by the store's own clock."""

    key: str
    stored_at: dt.datetime


class Store(Protocol):
    """What everybody else knows of a store. Raises Busy where the store can't be reached, or takes no more, now."""

    @contextmanager
    def incoming(self) -> Iterator[IO[bytes]]:
        """A file to write to and read from, gone at the end unless `keep` took it."""

    def keep(self, file: IO[bytes], key: str) -> None:
        """What the file (of `incoming`) holds is durable under the key. What is there already stays as it is."""

    def has(self, key: str) -> bool:
        """Whether something is kept under the key."""

    @contextmanager
    def opened(self, key: str) -> Iterator[IO[bytes]]:
        """What is kept under the key, to be read and sought in. Raises FileNotFoundError if nothing is."""

    def drop(self, key: str) -> None:
        """Nothing is kept under the key any more. Raises ValueError for a photo's key."""

    def everything(self) -> Iterator[Stored]:
        """All that is kept, in no order; also scratch files (`incoming/`) that a crash left behind."""

    def check(self) -> None:
        """The store answers and has been written to. Raises OSError or Busy if not."""


def droppable(key: str) -> str:
    """The key, of something that may be deleted. Raises ValueError for a photo's."""
    if not key.startswith(("parts/", "derived/", "exports/", "incoming/")):
        raise ValueError(f"{key} is kept for ever")
    return key


@contextmanager
def _room_on_disk() -> Iterator[None]:
    """Where the disk takes no more, nothing was stored, and the phone may try again."""
    try:
        yield
    except OSError as error:
        if error.errno not in _FULL:
            raise
        _LOG.error("the disk takes no more: %s", error)
        raise Busy("the disk takes no more") from error


class Folder:
    """A folder, made on first use. Several servers may share it.

    A file appears under its name only when it is complete and on the disk: written beside, fsynced, renamed, the folder
    fsynced (and the folders above it, where they are new). A crash leaves at most a stray file in `incoming/`.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    @contextmanager
    def incoming(self) -> Iterator[IO[bytes]]:
        with _room_on_disk(), tempfile.NamedTemporaryFile(dir=self._scratch_folder(), delete=False) as file:
            try:
                yield file.file
            finally:
                Path(file.name).unlink(missing_ok=True)

    def keep(self, file: IO[bytes], key: str) -> None:
        target = self._folder / key
        if not self.has(key):
            file.flush()
            os.fsync(file.fileno())
            _make_folder(target.parent)
            Path(file.name).replace(target)
        _fsync_folder(target.parent)  # also for what is there: who renamed it may have been killed before this line

    def has(self, key: str) -> bool:
        return (self._folder / key).is_file()

    @contextmanager
    def opened(self, key: str) -> Iterator[IO[bytes]]:
        with (self._folder / key).open("rb") as file:
            yield file

    def drop(self, key: str) -> None:
        (self._folder / droppable(key)).unlink(missing_ok=True)

    def everything(self) -> Iterator[Stored]:
        for path in self._folder.rglob("*"):
            with suppress(FileNotFoundError):  # dropped meanwhile
                told = path.stat()
                if stat.S_ISREG(told.st_mode):
                    stored_at = dt.datetime.fromtimestamp(told.st_mtime, dt.UTC)
                    yield Stored(path.relative_to(self._folder).as_posix(), stored_at)

    def check(self) -> None:
        with tempfile.TemporaryFile(dir=self._folder) as file:
            file.write(b"ready")

    def _scratch_folder(self) -> Path:
        folder = self._folder / "incoming"
        folder.mkdir(parents=True, exist_ok=True)
        return folder


def _make_folder(folder: Path) -> None:
    """The folder is there, and will be after a power cut."""
    if folder.is_dir():
        return
    _make_folder(folder.parent)
    folder.mkdir(exist_ok=True)
    _fsync_folder(folder.parent)


def _fsync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


class Bucket:
    """A bucket of an S3-compatible service, or what lies in it under a prefix. Any number of servers may share it.

    The service shows an object only once it is whole, also one that is sent in pieces, and every request's signature
    covers its bytes. Two who send under one key at the same moment both succeed, and the keys make that harmless: a
    photo's is the digest of its bytes, a part's is used once, two makings of a derivative are the same picture.
    (Conditional writes would forbid it, but not in pieces, and many services don't know them.)

    Scratch files are unnamed, where the machine keeps such. Connected on first use: what obstore starts does not
    survive a fork.
    """

    def __init__(
        self, name: str, prefix: str = "", *, key_id: str, secret: str, region: str, endpoint_url: str = ""
    ) -> None:
        self._name = name
        self._prefix = prefix
        self._key_id = key_id
        self._secret = secret
        self._region = region
        self._endpoint_url = endpoint_url
        self._sendings = threading.BoundedSemaphore(_BUCKET_SENDINGS)

    @cached_property
    def _objects(self) -> S3Store:
        return S3Store(
            self._name,
            prefix=self._prefix or None,
            config={"endpoint": self._endpoint_url} if self._endpoint_url else {},
            access_key_id=self._key_id,
            secret_access_key=self._secret,
            region=self._region,
            disable_bulk_delete=True,  # not every service knows it
            client_options={
                "allow_http": self._endpoint_url.startswith("http:"),
                "connect_timeout": _CONNECT_WITHIN,
                "timeout": _ANSWER_WITHIN,
            },
            retry_config={"max_retries": _RETRIES, "retry_timeout": _RETRY_WITHIN},
        )

    @contextmanager
    def incoming(self) -> Iterator[IO[bytes]]:
        with _room_on_disk(), tempfile.TemporaryFile() as file:
            yield file

    def keep(self, file: IO[bytes], key: str) -> None:
        if self.has(key):
            return
        file.seek(0)
        with self._sendings, self._answering():
            self._objects.put(key, file, chunk_size=_BUCKET_PIECE_BYTES, max_concurrency=1)

    def has(self, key: str) -> bool:
        with suppress(FileNotFoundError), self._answering(or_missing=True):
            self._objects.head(key)
            return True
        return False

    @contextmanager
    def opened(self, key: str) -> Iterator[IO[bytes]]:
        with self.incoming() as file:
            with self._answering(or_missing=True):
                for piece in self._objects.get(key).stream(PIECE_BYTES):
                    file.write(piece)
            file.seek(0)
            yield file

    def drop(self, key: str) -> None:
        with suppress(FileNotFoundError), self._answering(or_missing=True):
            self._objects.delete(droppable(key))

    def everything(self) -> Iterator[Stored]:
        with self._answering():
            for page in self._objects.list():
                for told in page:
                    yield Stored(told["path"], told["last_modified"])

    def check(self) -> None:
        with self.incoming() as file:
            file.write(b"ready")
            self.keep(file, "incoming/ready")

    @contextmanager
    def _answering(self, *, or_missing: bool = False) -> Iterator[None]:
        """What the service refuses, or doesn't answer in time, stands in the log in its own words; nothing was stored.

        Raises FileNotFoundError where an object may be missing and is; a bucket that is missing is another matter.
        """
        try:
            yield
        except (BaseError, FileNotFoundError) as error:
            told = str(error).partition("\n\nDebug source")[0]
            if or_missing and isinstance(error, FileNotFoundError) and "NoSuchBucket" not in told:
                raise
            _LOG.error("the bucket %s: %s", self._name, " ".join(told.split()))
            raise Busy("the store of photos can't be reached") from None
