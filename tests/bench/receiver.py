"""The floor of an upload: the same bytes, received, hashed, written and synced, and nothing else.

As many processes as gunicorn has workers, a thread per connection: what comes over a local socket is read into one
buffer of 64 KiB, goes into SHA-256 and a file, which is synced and answered with its digest. No HTTP, no token, no
rename, no database. The folder lies where the server's store does.
"""

from __future__ import annotations

import hashlib
import multiprocessing
import os
import socket
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager

PIECE_BYTES = 64 * 1024
#: Before the bytes: how many there are; after them: their SHA-256.
LENGTH_BYTES, DIGEST_BYTES = 8, 32


@contextmanager
def receiving(workers: int) -> Iterator[str]:
    """The address of so many processes that receive; all is gone at the end."""
    with (
        tempfile.TemporaryDirectory(prefix="field-api-floor-") as folder,
        socket.create_server(("127.0.0.1", 0)) as door,
    ):
        spawned = multiprocessing.get_context("spawn")
        processes = [spawned.Process(target=_work, args=(door, folder), daemon=True) for _ in range(workers)]
        for process in processes:
            process.start()
        yield f"http://127.0.0.1:{door.getsockname()[1]}"
        for process in processes:
            process.kill()
            process.join()


def _work(door: socket.socket, folder: str) -> None:
    while True:
        line, _ = door.accept()
        threading.Thread(target=_serve, args=(line, folder), daemon=True).start()


def _serve(line: socket.socket, folder: str) -> None:
    with line:
        while told := line.recv(LENGTH_BYTES, socket.MSG_WAITALL):
            line.sendall(_receive(line, int.from_bytes(told, "big"), folder))


def _receive(line: socket.socket, left: int, folder: str) -> bytes:
    digest, piece = hashlib.sha256(), memoryview(bytearray(PIECE_BYTES))
    descriptor, _ = tempfile.mkstemp(dir=folder)
    with open(descriptor, "wb", buffering=0) as file:
        while left and (got := line.recv_into(piece[: min(left, PIECE_BYTES)])):
            digest.update(piece[:got])
            file.write(piece[:got])
            left -= got
        os.fsync(file.fileno())
    return digest.digest()
