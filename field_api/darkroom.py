"""What goes on behind the requests, so that no phone waits for it, by one thread in every process: photos are looked
at, and records of which more is known by now.

It starts with the first request of its process, thus after any fork. Processes share the work; where none shall do it
(`FIELD_API_LOOK_EVERY_S=0`), `flask look-at-photos` does.
"""

from __future__ import annotations

import datetime as dt
import logging
import sys
from collections.abc import Callable, Iterator
from typing import NamedTuple

from flask import Flask
from sqlalchemy.orm import Session

from field_api.behind import Behind
from field_api.database import db, writing
from field_api.settings import Settings
from field_api.storage import store
from field_api.yardstick import yardstick
from sync import darkroom, reappraisal
from sync.problems import Busy

log = logging.getLogger(__name__)

#: Photos looked at before the records that cite them are told: a second or two.
PHOTOS_PER_ROUND = 20


def init_app(app: Flask, settings: Settings) -> None:
    """The app has a darkroom; the first request opens it, if the settings say how often it is to look."""
    room = app.extensions["darkroom"] = Darkroom(app, settings.look_every_s)
    if settings.look_every_s:
        app.before_request(room.open)


class Left(NamedTuple):
    """What there is still to do: photos that nobody has looked at, citations to compare, records to look at again."""

    photos: int
    citations: int
    records: int


class Darkroom:
    """Looks at the photos that wait, tells the records that cite them, and looks at records again: once, or every so
    often in a thread."""

    def __init__(self, app: Flask, every_s: int) -> None:
        self._behind = Behind(app, "darkroom", every_s, self._do_all, "photos and records wait to be looked at")

    def open(self) -> None:
        """The thread is there. Again: nothing changes."""
        self._behind.open()

    def close(self) -> None:
        """The thread has ended; should a photo take it too long, it ends with the process."""
        self._behind.close()

    def rounds(self) -> Iterator[Left]:
        """Everything that waits is done, in rounds; what still waits is told before each. Needs an app context.

        Raises Busy if the store is away.
        """
        while self._behind.goes_on() and any(left := _waiting()):
            yield left
            with writing(db.engine) as session:
                darkroom.spare(session, now=_now())
            looked = self._repeat(_look_at_next, PHOTOS_PER_ROUND)
            compared, again = self._repeat(_compare_some), self._repeat(_look_again_at_some)
            if not looked and not compared and not again:
                return  # another process has it in hand

    def _repeat(self, do: Callable[[], bool], most: int = sys.maxsize) -> int:
        """How often this was done, until there was nothing left to do."""
        done = 0
        while self._behind.goes_on() and done < most and do():
            done += 1
        return done

    def _do_all(self) -> None:
        for _ in self.rounds():
            pass


def _waiting() -> Left:
    with Session(db.engine) as session:
        return Left(*darkroom.waiting(session, now=_now()), reappraisal.waiting(session))


def _look_at_next() -> bool:
    """Whether there was a photo that nobody had looked at."""
    with writing(db.engine) as session:
        sha256 = darkroom.claim(session, now=_now())
    if sha256 is None:
        return False
    try:
        facts = darkroom.look(store(), sha256)
    except OSError as error:  # it is gone, or the disk doesn't give it: that says nothing of the photo
        why = error.strerror or "no bytes"
        log.error("photo %s can't be read (%s); flask check-store tells which others", sha256, why)
        with writing(db.engine) as session:
            darkroom.put_back(session, sha256, claimed_at=_now())
        return True
    except Busy:
        with writing(db.engine) as session:
            darkroom.put_back(session, sha256)
        raise
    with writing(db.engine) as session:
        darkroom.keep_facts(session, sha256, facts, now=_now())
    return True


def _compare_some() -> bool:
    """Whether there were citations to compare."""
    with writing(db.engine) as session:
        return darkroom.compare(session, now=_now()) > 0


def _look_again_at_some() -> bool:
    """Whether there were records to look at again."""
    with writing(db.engine) as session:
        return reappraisal.look_again(session, yardstick(), now=_now()) > 0


def _now() -> dt.datetime:
    return dt.datetime.now(dt.UTC)
