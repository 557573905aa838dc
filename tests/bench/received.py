"""The same days through the intake into a real database: what its blocking finds, what it keeps, what it groups."""

from __future__ import annotations

import datetime as dt
import tempfile
import uuid
from collections import defaultdict
from collections.abc import Iterable, Mapping
from itertools import combinations
from pathlib import Path

import orjson
from sqlalchemy import create_engine, select
from sqlalchemy.orm import Session

from migrations import upgrade
from sync import intake, journal, reference, wire
from sync.fellegi_sunter import score_of
from sync.likeness import KINDS
from sync.models import Account, Grouped, Installation, Resemblance, SignedIn, begin_write, prepare
from sync.resemblances import Yardstick, candidates, sketches
from tests.bench.doubles import Day, Sending, Told, case
from tests.bench.judged import Figures, same_events
from tests.builders import make_account

Pair = frozenset[uuid.UUID]
_PHOTO_MAX_BYTES = 20 * 1024 * 1024


def received(days: Iterable[Day], folder: Path, yardstick: Yardstick) -> Figures:
    """Figures of days of one township that were received by a new SQLite database with the lists in `folder`, batch
    after batch as they arrived. Photos have not arrived yet."""
    figures = Figures(yardstick.told_from)
    with tempfile.TemporaryDirectory(prefix="field-api-doubles-") as home:
        url = f"sqlite:///{Path(home) / 'field.sqlite'}"
        upgrade(url)
        engine = prepare(create_engine(url))
        try:
            with Session(engine) as session:
                _begin(session, folder)
                for day in days:
                    for sending in day.sendings:
                        _receive(session, day.township, sending, yardstick)
                    _count(session, day, figures)
        finally:
            engine.dispose()
    return figures


def _begin(session: Session, folder: Path) -> None:
    begin_write(session)
    journal.start(session)
    reference.load(session, reference.read(folder), now=dt.datetime(2026, 1, 5, tzinfo=dt.UTC))
    session.commit()


def _receive(session: Session, township: str, sending: Sending, yardstick: Yardstick) -> None:
    session.rollback()
    begin_write(session)
    who = _signed_in(session, township, sending)
    known = reference.snapshot(session)
    receipt = intake.receive(
        session,
        who,
        wire.read_envelope(orjson.dumps(sending.envelope)),
        known.lists,
        known.areas,
        now=sending.at,
        photo_max_bytes=_PHOTO_MAX_BYTES,
        likeness=yardstick,
    )
    session.commit()
    refused = [result for result in receipt["results"] if result["outcome"] == "quarantined"]
    if refused:
        raise RuntimeError(f"an operation was not taken: {refused[0]}")


def _signed_in(session: Session, township: str, sending: Sending) -> SignedIn:
    name, install_id = sending.username, uuid.UUID(sending.install)
    account = session.scalars(select(Account).where(Account.username == name)).first()
    account = account or make_account(session, username=name, townships=(township,))
    if session.get(Installation, install_id) is None:
        new = {"received": [], "unsent": [], "next_n": 1, "created_at": sending.at}
        session.add(Installation(id=install_id, account_id=account.id, **new))
        session.flush()
    return SignedIn(account.id, name, "officer", frozenset({township}), install_id)


def _count(session: Session, day: Day, figures: Figures) -> None:
    """The pairs of this day, found, kept and grouped as they are by now."""
    told = {uuid.UUID(record): truth for record, truth in day.told.items()}
    found, kept, grouped = _found(session, told), _kept(session, told), _grouped(session, told)
    same = {frozenset(pair) for pair in same_events(told)}
    figures.records += len(told)
    for pair in found | same | kept.keys() | grouped:
        one, other = (told[id] for id in pair)
        score = score_of(kept[pair]) if pair in kept else 0.0
        figures.count(one.kind, case(one, other), found=pair in found, score=score, grouped=pair in grouped)


def _found(session: Session, told: Mapping[uuid.UUID, Told]) -> set[Pair]:
    drawn = {}
    for kind in KINDS:
        drawn |= sketches(session, kind, [id for id, each in told.items() if each.kind == kind])
    _, pairs = candidates(session, drawn)
    return {frozenset(pair) for pair in pairs if set(pair) <= told.keys()}


def _kept(session: Session, told: Mapping[uuid.UUID, Told]) -> dict[Pair, float]:
    rows = session.execute(select(Resemblance.one_id, Resemblance.other_id, Resemblance.weight))
    kept = {frozenset((one, other)): weight for one, other, weight in rows}
    return {pair: weight for pair, weight in kept.items() if pair <= told.keys()}


def _grouped(session: Session, told: Mapping[uuid.UUID, Told]) -> set[Pair]:
    groups: dict[uuid.UUID, list[uuid.UUID]] = defaultdict(list)
    for row in session.execute(select(Grouped.record_id, Grouped.group_id)):
        if row.record_id in told:
            groups[row.group_id].append(row.record_id)
    return {frozenset(pair) for members in groups.values() for pair in combinations(members, 2)}
