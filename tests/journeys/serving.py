"""A real server process, as it is run in earnest: waitress, or gunicorn with two workers (the demo: with one)."""

from __future__ import annotations

import http.client
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
STARTS_WITHIN_S = 30
GUNICORN = "-m gunicorn --worker-class gthread --threads 32 --no-control-socket --bind 127.0.0.1:{port} wsgi:app"
COMMANDS = {
    "waitress": "-m waitress --threads=16 --listen=127.0.0.1:{port} wsgi:app",
    "gunicorn": f"{GUNICORN} --workers 2",
    "gunicorn of one": f"{GUNICORN} --workers 1",
}


#: Signs the tokens of these servers and nothing else.
SECRET = "a secret of tests only, long enough"


@dataclass
class Running:
    """A server that runs, as a process that can be killed and started again on the same port."""

    port: int
    log: Path
    _start: Callable[[], subprocess.Popen[bytes]]
    _process: subprocess.Popen[bytes]

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def workers(self) -> list[int]:
        """The processes that the server has started."""
        children = Path(f"/proc/{self._process.pid}/task/{self._process.pid}/children")
        return [int(pid) for pid in children.read_text().split()]

    def kill(self) -> None:
        """Everything is gone in the middle of what it was doing."""
        workers = self.workers()
        self._process.kill()
        for pid in workers:
            self.kill_worker(pid)
        self._process.wait(STARTS_WITHIN_S)

    def kill_worker(self, pid: int) -> None:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)

    def start_again(self) -> None:
        self._process = self._start()
        self.wait_until_alive()

    def stop(self) -> None:
        self._process.terminate()
        self._process.wait(STARTS_WITHIN_S)

    def wait_until_alive(self) -> None:
        until = time.monotonic() + STARTS_WITHIN_S
        while not _is_alive(self.port):
            if self._process.poll() is not None or time.monotonic() > until:
                raise RuntimeError(f"the server did not start:\n{self.log.read_text()}")
            time.sleep(0.1)


@contextmanager
def running(
    kind: str, database_url: str, folder: Path, *, port: int | None = None, **settings: object
) -> Iterator[Running]:
    """A server on this database, on any port; `settings` are those of `field_api/settings.py`, by name."""
    port, log = port or free_port(), folder / "server.log"
    env = os.environ | {"DATABASE_URL": database_url, "FIELD_API_SECRET": SECRET}
    env |= {"FIELD_API_STORE_FOLDER": str(folder / "photos")}
    env |= {f"FIELD_API_{name.upper()}": str(value) for name, value in settings.items()}
    command = [sys.executable, *COMMANDS[kind].format(port=port).split()]

    def start() -> subprocess.Popen[bytes]:
        with log.open("ab") as file:
            return subprocess.Popen(command, cwd=REPOSITORY, env=env, stdout=file, stderr=file)

    server = Running(port, log, start, start())
    try:
        server.wait_until_alive()
        yield server
    finally:
        server.stop()


@contextmanager
def serving(kind: str, database_url: str, folder: Path, **settings: object) -> Iterator[str]:
    """The address of a server on this database."""
    with running(kind, database_url, folder, **settings) as server:
        yield server.url


def free_port() -> int:
    with closing(socket.create_server(("127.0.0.1", 0))) as listener:
        return int(listener.getsockname()[1])


def _is_alive(port: int) -> bool:
    with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=5)) as connection:
        try:
            connection.request("GET", "/health")
            return connection.getresponse().status == 200
        except OSError:
            return False
