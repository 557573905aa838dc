"""Operations and batches as a phone writes them, for engine tests: small, with the figures that matter at the call."""

from __future__ import annotations

import itertools
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, cast

import orjson
from sqlalchemy import Engine
from sqlalchemy.orm import Session

from sync import intake, reference, wire
from sync.models import SignedIn, begin_write
from sync.resemblances import Yardstick, read_weights
from tests.builders import GUALI

#: In 瓜沥镇's box of `tests/builders.py`, away from its limits.
IN_GUALI = {"lon": 120.46, "lat": 30.18, "accuracy_m": 12, "crs": "wgs84", "source": "gps"}
#: 08:00 in Xiaoshan on the day of the tests, and when the phone sends, a quarter of an hour before `now` is 0 ms old.
AT = {"wall": "2026-11-23T08:00:00+08:00", "mono_ms": 1_000_000, "boot": "7"}
SENT = {"wall": "2026-11-23T16:15:00+08:00", "mono_ms": 30_700_000, "boot": "7"}

#: The table that comes with the engine, and from which score people are told: the defaults of the settings.
YARDSTICK = Yardstick(read_weights(), {"patrol": 0.2, "incident": 0.2, "warning": 0.2, "vendor": 0.95})
#: The largest photo that is taken, bytes: the default of the settings.
PHOTO_MAX_BYTES = 20 * 1024 * 1024

_counter = itertools.count(1)


def operation(kind: str, record: uuid.UUID | None = None, **parts: Any) -> dict[str, Any]:
    """One operation of a kind; `parts` replace or add what stands beside `op`, `n`, `kind`, `record` and `at`."""
    basis = {
        "op": str(uuid.uuid4()),
        "n": next(_counter),
        "kind": kind,
        "record": str(record or uuid.uuid4()),
        "at": AT,
    }
    return basis | parts


def patrol(officers: list[str] | None = None, record: uuid.UUID | None = None, **body: Any) -> dict[str, Any]:
    """A patrol in 瓜沥镇 by two officers."""
    said = {"officers": ["officer", "partner"] if officers is None else officers, "township": GUALI} | body
    return operation("patrol.create", record, body=said, fix=IN_GUALI)


def incident(of: dict[str, Any], *, fix: Any = IN_GUALI, photos: Any = (), **body: Any) -> dict[str, Any]:
    """A street vendor met on a patrol, taught and guided to a designated place: the normal case, without a fine."""
    said = {
        "patrol": of["record"],
        "items": ["DEMO-SR-001"],
        "township": GUALI,
        "event_class": "09001",
        "description": "在建工地门口流动摊贩，已批评教育并引导至指定地点",
        "measures": ["educate", "guide"],
        "designated_place": "DEMO-PLACE-1",
    } | body
    return operation("incident.create", fix=fix, photos=list(photos), body=said)


def warning(of: dict[str, Any], **body: Any) -> dict[str, Any]:
    """What the vendor was told."""
    return operation(
        "warning.create", body={"incident": of["record"], "step": "education", "text": "请到指定地点经营"} | body
    )


def amend(what: dict[str, Any], base: int, **fields: Any) -> dict[str, Any]:
    """Some fields of a record, changed on the version it was seen in."""
    kind = what["kind"].split(".")[0]
    return operation(f"{kind}.amend", uuid.UUID(what["record"]), base=base, set=fields)


def void(what: dict[str, Any], reason: str = "重复录入") -> dict[str, Any]:
    return operation(f"{what['kind'].split('.')[0]}.void", uuid.UUID(what["record"]), reason=reason)


def batch(who: SignedIn, *operations: Any, **parts: Any) -> dict[str, Any]:
    """An envelope that promises exactly what it holds."""
    numbers = [o["n"] for o in operations if isinstance(o, dict) and isinstance(o.get("n"), int)]
    basis = {
        "batch": str(uuid.uuid4()),
        "install": str(who.install_id),
        "app": "3.2.1",
        "sent": SENT,
        "next_n": max(numbers, default=0) + 1,
        "unsent": [],
        "ops": list(operations),
    }
    return basis | parts


def push(session: Session, who: SignedIn, envelope: dict[str, Any] | bytes, now: Any) -> dict[str, Any]:
    """The receipt of a batch that was committed, as the phone reads it."""
    read = wire.read_envelope(envelope if isinstance(envelope, bytes) else orjson.dumps(envelope))
    session.rollback()
    begin_write(session)
    known = reference.snapshot(session)
    measured = {"photo_max_bytes": PHOTO_MAX_BYTES, "likeness": YARDSTICK}
    receipt = intake.receive(session, who, read, known.lists, known.areas, now=now, **measured)
    session.commit()
    return orjson.loads(orjson.dumps(receipt, option=orjson.OPT_UTC_Z))  # type: ignore[no-any-return]


def outcomes(receipt: dict[str, Any]) -> list[str]:
    return [result["outcome"] for result in receipt["results"]]


def codes(result: dict[str, Any]) -> set[str]:
    """The codes of a result's notes."""
    return {note["code"] for note in result["notes"]}


_REFUSE = {
    "sqlite": [
        "CREATE TRIGGER refuses BEFORE INSERT ON incidents WHEN NEW.description = '{}'"
        " BEGIN SELECT RAISE(ABORT, 'no'); END",
    ],
    "postgresql": [
        "CREATE FUNCTION refuses() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'no'; END $$",
        "CREATE TRIGGER refuses BEFORE INSERT ON incidents FOR EACH ROW WHEN (NEW.description = '{}')"
        " EXECUTE FUNCTION refuses()",
    ],
}
_RELENT = {"sqlite": "DROP TRIGGER refuses", "postgresql": "DROP FUNCTION refuses CASCADE"}


@contextmanager
def refusing(session: Session, description: str) -> Iterator[None]:
    """The database itself refuses an incident described like this, whatever the engine thinks of it."""
    engine = cast(Engine, session.get_bind())
    with engine.begin() as connection:
        for statement in _REFUSE[engine.dialect.name]:
            connection.exec_driver_sql(statement.format(description))
    yield
    session.rollback()
    with engine.begin() as connection:
        connection.exec_driver_sql(_RELENT[engine.dialect.name])
