"""A phone that pulls: it keeps what it is told, page after page, whenever it likes, and nothing else."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import orjson
from sqlalchemy.orm import Session

from sync.changes import Page, changes
from sync.models import SignedIn, begin_read

Held = dict[tuple[str, str], Any]


@dataclass
class Puller:
    """What one phone holds, by type and id, and the cursor it was given last."""

    who: SignedIn
    cursor: str | None = None
    holds: Held = field(default_factory=dict)

    def pull(self, session: Session, *, limit: int = 1_000) -> list[dict[str, Any]]:
        """Everything that has changed since the last time, in the order told."""
        told: list[dict[str, Any]] = []
        more = True
        while more:
            page = self.turn(session, limit=limit)
            more = page.more
            told += page.changes
        return told

    def turn(self, session: Session, *, limit: int) -> Page:
        """The next page."""
        page = asked(session, self.who, self.cursor, limit=limit)
        assert len(page.changes) <= limit
        for change in page.changes:
            key = change["type"], change["id"]
            if change["op"] == "put":
                self.holds[key] = change["data"]
            else:
                self.holds.pop(key, None)
        self.cursor = page.cursor
        return page

    def ids(self, kind: str) -> set[str]:
        """What it holds of one type."""
        return {name for of, name in self.holds if of == kind}


def asked(session: Session, who: SignedIn, cursor: str | None, *, limit: int) -> Page:
    """A page as the phone reads it."""
    session.rollback()
    begin_read(session)
    page = changes(session, who, cursor, limit=limit)
    session.rollback()
    return Page(orjson.loads(orjson.dumps(page.changes, option=orjson.OPT_UTC_Z)), page.cursor, page.more)
