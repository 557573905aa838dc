"""What the journeys against bad input stand on: a real server with small lists, and phones that speak HTTP by hand."""

from __future__ import annotations

import datetime as dt
import http.client
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import orjson
import pytest
from sqlalchemy import Engine, select
from sqlalchemy.orm import Session

from migrations import upgrade
from sync import accounts, journal
from sync.models import Account, Operation, SignedIn, begin_write
from tests.builders import GUALI, make_account, make_event_class, make_item, make_place, make_townships
from tests.conftest import opened
from tests.journeys.serving import Running, running

PASSWORD = "only-for-this-test"
BATCHES = "/api/v1/sync/batches"
UPLOADS = "/api/v1/uploads"
#: How often a request is repeated that met a busy or dead server.
ATTEMPTS = 60


class Answer(NamedTuple):
    status: int
    headers: Any
    json: Any

    @property
    def code(self) -> str | None:
        return self.json.get("code")  # type: ignore[no-any-return]


@dataclass(frozen=True)
class Handset:
    """One installation that is signed in. Every request has a connection of its own."""

    port: int
    who: SignedIn
    token: str

    def ask(self, method: str, path: str, body: bytes | None = None, **headers: str) -> Answer:
        """One request, one answer; header names with `_` for `-`. `authorization=""` sends none."""
        sent = {"Authorization": f"Bearer {self.token}", "Content-Type": "application/json"}
        sent |= {name.replace("_", "-").title(): value for name, value in headers.items()}
        with closing(http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)) as connection:
            connection.request(method, path, body, {name: value for name, value in sent.items() if value})
            response = connection.getresponse()
            content = response.read()
            is_json = content and "json" in response.headers.get_content_type()  # of HEAD only the headers come
            return Answer(response.status, response.headers, orjson.loads(content) if is_json else {})

    def push(self, batch: dict[str, Any] | bytes, **headers: str) -> Answer:
        return self.ask("POST", BATCHES, batch if isinstance(batch, bytes) else orjson.dumps(batch), **headers)

    def push_until_answered(self, batch: dict[str, Any]) -> dict[str, Any]:
        """The receipt, however often the server was busy, died or let the connection drop."""
        return until_answered(lambda: self.push(batch))


def until_answered(ask: Callable[[], Answer]) -> dict[str, Any]:
    """What is answered in the end, as phones ask: again while the server is busy or cannot be reached."""
    for _ in range(ATTEMPTS):
        try:
            answer = ask()
        except (OSError, http.client.HTTPException):
            time.sleep(0.2)
            continue
        if answer.status == 200:
            return answer.json  # type: ignore[no-any-return]
        assert answer.status in (429, 503), answer
        time.sleep(0.1)
    raise AssertionError("no answer")


@dataclass(frozen=True)
class Ground:
    """A server, and its database to look into."""

    server: Running
    engine: Engine
    folder: Path

    def handset(self, username: str = "officer", install: uuid.UUID | None = None) -> Handset:
        """A phone of this account, signed in; a new one unless `install` says which."""
        install = install or uuid.uuid4()
        said = orjson.dumps({"username": username, "password": PASSWORD, "install": str(install)})
        nobody = Handset(self.server.port, SignedIn(0, "", "", frozenset(), None), "")
        token = until_answered(lambda: nobody.ask("POST", "/api/v1/auth/login", said, authorization=""))["access_token"]
        with Session(self.engine) as session:
            account = session.scalars(select(Account).where(Account.username == username)).one()
            who = SignedIn(account.id, username, account.role, frozenset({GUALI}), install)
        return Handset(self.server.port, who, token)

    def stored(self, *operations: dict[str, Any]) -> list[Operation]:
        """The rows of these operations, by the phone's id."""
        with Session(self.engine) as session:
            ids = [operation["op"] for operation in operations]
            return list(session.scalars(select(Operation).where(Operation.op.in_(ids))))


@contextmanager
def made(kind: str, url: str, folder: Path, **settings: object) -> Iterator[Ground]:
    """A server of this kind on a new database with small lists and four accounts."""
    with opened(url) as engine:
        with Session(engine) as session:
            begin_write(session)
            _fill(session)
            session.commit()
        with running(kind, url, folder, **settings) as server:
            yield Ground(server, engine, folder)


def _fill(session: Session) -> None:
    journal.start(session)
    make_townships(session)
    make_item(session)
    make_place(session)
    make_event_class(session)
    now = dt.datetime.now(dt.UTC)
    for username, role in (("officer", "officer"), ("stranger", "officer"), ("supervisor", "supervisor")):
        accounts.add(session, username, PASSWORD, full_name=f"测试 {username}", role=role, townships=[GUALI], now=now)
    make_account(session, username="partner")


def at(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ground]:
    """The ground that the fixture's parameter names: `gunicorn on postgresql`."""
    kind, _, database = request.param.partition(" on ")
    folder = tmp_path_factory.mktemp("journey")
    url = f"sqlite:///{folder / 'field.sqlite'}"
    if database == "postgresql":
        url = request.getfixturevalue("postgresql").create_database(request.getfixturevalue("template"))
    else:
        upgrade(url)
    with made(kind, url, folder) as ground:
        yield ground
