"""Where bytes are kept: under keys, written once, never changed. A folder, or a bucket of an S3-compatible service.

What has a key is complete and durable. Keys are made by `photo_key`, `derivative_key` and `part_key`, so that everything
else knows a photo by its SHA-256 only. Photos are never deleted; parts of uploads and derivatives can be.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Protocol

#: Read at once, bytes.
PIECE_BYTES = 256 * 1024


def photo_key(sha256: str) -> str:
    """Where the photo of this name is kept. Two levels, so that no folder grows too long to list."""
    return f"{sha256[:2]}/{sha256[2:4]}/{sha256}"


def derivative_key(sha256: str, size: str) -> str:
    """Where what was made of a photo is kept: `size` is `thumb` or `screen`."""
    return f"derived/{size}/{photo_key(sha256)}.jpg"


def part_key(key: str) -> str:
    """Where a part of an unfinished upload is kept."""
    return f"parts/{key[:2]}/{key}"


class Store(Protocol):
    """What everybody else knows of a store. Raises Busy where the store can't be reached now."""

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

    def keys(self) -> Iterator[str]:
        """Everything that is kept."""

    def check(self) -> None:
        """Something can be written now. Raises OSError or Busy if not."""


def droppable(key: str) -> str:
    """The key, of something that may be deleted. Raises ValueError for a photo's."""
    if not key.startswith(("parts/", "derived/")):
        raise ValueError(f"{key} is kept for ever")
    return key


class Folder:
    """A folder, made on first use. Several servers may share it.

    A file appears under its name only when it is complete and on the disk: written beside, fsynced, renamed, the folder
    fsynced. A crash leaves at most a stray file in `incoming/`.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    @contextmanager
    def incoming(self) -> Iterator[IO[bytes]]:
        folder = self._folder / "incoming"
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=folder, delete=False) as file:
            try:
                yield file.file
            finally:
                Path(file.name).unlink(missing_ok=True)

    def keep(self, file: IO[bytes], key: str) -> None:
        if self.has(key):
            return
        file.flush()
        os.fsync(file.fileno())
        target = self._folder / key
        target.parent.mkdir(parents=True, exist_ok=True)
        Path(file.name).replace(target)
        for folder in target.relative_to(self._folder).parents:
            _fsync_folder(self._folder / folder)

    def has(self, key: str) -> bool:
        return (self._folder / key).is_file()

    @contextmanager
    def opened(self, key: str) -> Iterator[IO[bytes]]:
        with (self._folder / key).open("rb") as file:
            yield file

    def drop(self, key: str) -> None:
        (self._folder / droppable(key)).unlink(missing_ok=True)

    def keys(self) -> Iterator[str]:
        for path in self._folder.rglob("*"):
            key = path.relative_to(self._folder)
            if key.parts[0] != "incoming" and path.is_file():
                yield key.as_posix()

    def check(self) -> None:
        with tempfile.TemporaryFile(dir=self._folder) as file:
            file.write(b"ready")


def _fsync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
