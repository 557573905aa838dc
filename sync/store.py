"""Where bytes are kept: a folder, each file named by the SHA-256 of what it holds, never changed afterwards.

A file appears under its name only when it is complete and on the disk: written beside, fsynced, renamed, the folder
fsynced. A crash leaves at most a stray file in `incoming/`.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO


class Store:
    """The files of one folder, made on first use."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def path(self, sha256: str) -> Path:
        """Where the file of this name is, or would be. Two levels, so that no folder grows too long to list."""
        return self._folder / sha256[:2] / sha256[2:4] / sha256

    def has(self, sha256: str) -> bool:
        return self.path(sha256).is_file()

    @contextmanager
    def incoming(self) -> Iterator[IO[bytes]]:
        """A file to write to; gone at the end unless `keep` gave it its name."""
        folder = self._folder / "incoming"
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=folder, delete=False) as file:
            try:
                yield file.file
            finally:
                Path(file.name).unlink(missing_ok=True)

    def keep(self, file: IO[bytes], sha256: str) -> None:
        """The file is durable under its name."""
        file.flush()
        os.fsync(file.fileno())
        target = self.path(sha256)
        target.parent.mkdir(parents=True, exist_ok=True)
        Path(file.name).replace(target)
        for folder in (target.parent, target.parent.parent, self._folder):
            _fsync_folder(folder)


def _fsync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
