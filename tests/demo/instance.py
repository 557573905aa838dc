"""A place for the demo to live in: a database with tables, reference data and accounts, and a server on it."""

from __future__ import annotations

import datetime as dt
import tempfile
from pathlib import Path

from sqlalchemy import create_engine
from sqlalchemy.orm import Session

from migrations import upgrade
from sync import journal, reference
from sync.models import begin_write, prepare
from tests.demo import demo_list
from tests.demo.people import add_people


def set_up(url: str, password: str) -> None:
    """Tables, reference data and accounts with this password are there; what was there before has stayed."""
    upgrade(url)
    engine = prepare(create_engine(url))
    with Session(engine) as session, tempfile.TemporaryDirectory() as lists:
        now = dt.datetime.now(dt.UTC)
        demo_list.write(Path(lists))
        begin_write(session)
        journal.start(session)
        reference.load(session, reference.read(Path(lists)), now=now)
        add_people(session, password, now=now)
        session.commit()
    engine.dispose()
