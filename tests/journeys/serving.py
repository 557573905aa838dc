"""A real server process, as it is run in earnest: waitress, or gunicorn with two workers."""

from __future__ import annotations

import http.client
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
STARTS_WITHIN_S = 30
COMMANDS = {
    "waitress": "-m waitress --threads=16 --listen=127.0.0.1:{port} wsgi:app",
    "gunicorn": "-m gunicorn --workers 2 --worker-class gthread --threads 32 --no-control-socket "
    "--bind 127.0.0.1:{port} wsgi:app",
}


@contextmanager
def serving(kind: str, database_url: str, folder: Path, **settings: object) -> Iterator[str]:
    """The address of a server on this database; `settings` are those of `field_api/settings.py`, by name."""
    port = free_port()
    env = os.environ | {"DATABASE_URL": database_url, "FIELD_API_SECRET": "a secret of tests only, long enough"}
    env |= {"FIELD_API_STORE_FOLDER": str(folder / "photos")}
    env |= {f"FIELD_API_{name.upper()}": str(value) for name, value in settings.items()}
    command = [sys.executable, *COMMANDS[kind].format(port=port).split()]
    with (folder / "server.log").open("ab") as log:
        process = subprocess.Popen(command, cwd=REPOSITORY, env=env, stdout=log, stderr=log)
    try:
        _wait_until_alive(process, port, folder / "server.log")
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(STARTS_WITHIN_S)


def free_port() -> int:
    with closing(socket.create_server(("127.0.0.1", 0))) as listener:
        return int(listener.getsockname()[1])


def _wait_until_alive(process: subprocess.Popen[bytes], port: int, log: Path) -> None:
    until = time.monotonic() + STARTS_WITHIN_S
    while not _is_alive(port):
        if process.poll() is not None or time.monotonic() > until:
            raise RuntimeError(f"the server did not start:\n{log.read_text()}")
        time.sleep(0.1)


def _is_alive(port: int) -> bool:
    with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=5)) as connection:
        try:
            connection.request("GET", "/health")
            return connection.getresponse().status == 200
        except OSError:
            return False
