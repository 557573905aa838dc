"""What people decide of records that are alike: that they are one thing, that some are not the rest of their group,
that they are not the same; and that such a word was wrong.

Nothing of it changes a record. Every decision names all records it is about, each in the version that its sender saw,
with all that they are one thing with: if that is not how things are, it is refused with how they are now. Who decides
must be in charge of every one of them. The callers have begun a writing transaction and commit it.
"""

from __future__ import annotations

import datetime as dt
import uuid
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations, product
from typing import Any

from sqlalchemy import literal, select
from sqlalchemy.orm import Session

from sync import grouping, groups, journal, shapes
from sync.again import look_again_at
from sync.grouping import Overlay, Said
from sync.groups import MODELS, Word
from sync.models import Account, Grouping, Resemblance, SignedIn, among
from sync.patrol_log import may_decide_on
from sync.problems import DecidedMeanwhile, DecisionInvalid, NotFound
from sync.shapes import Json
from sync.vendor_log import recounted


def decide(session: Session, who: SignedIn, said: Mapping[str, Any], *, now: dt.datetime) -> Json:
    """The groups of these records once this counts.

    Raises NotFound if one of them isn't this account's to decide on, DecisionInvalid if this can't be said of them,
    DecidedMeanwhile if they, or what they are one thing with, are not as the sender saw it.
    """
    journal.hold_counter(session)  # what a group comes to depends on all that was said before
    matter = _matter(session, who, said["records"])
    word = _SAY[said["action"]](session, who, said, matter)
    spoken = groups.say(session, [word], now=now)
    look_again_at(session, recounted(session, spoken.changed), now=now)
    journal.record(session, spoken.changes, now=now, evidence=spoken.evidence)
    after = groups.overlay(session, matter.ids)
    return {"grouping": str(spoken.ids[0]), "groups": _told(after, matter.ids)}


@dataclass(frozen=True, slots=True)
class _Matter:
    """What a decision is about: the records, of one kind, and what they are one thing with."""

    kind: str
    ids: frozenset[uuid.UUID]
    overlay: Overlay

    @property
    def parts(self) -> list[frozenset[uuid.UUID]]:
        """The groups they are in, and those that stand alone, in order."""
        return sorted({self.overlay.group_of(id) for id in self.ids}, key=sorted)


def _matter(session: Session, who: SignedIn, seen: Sequence[Mapping[str, Any]]) -> _Matter:
    versions = {each["id"]: each["version"] for each in seen}
    found = _found(session, who, versions)
    if found.keys() != versions.keys():
        raise NotFound
    kinds = {kind for kind, _ in found.values()}
    if len(kinds) > 1:
        raise DecisionInvalid(why="kinds")
    matter = _Matter(kinds.pop(), frozenset(versions), groups.overlay(session, versions))
    whole = frozenset().union(*matter.parts)
    if len(_found(session, who, whole)) < len(whole):
        raise DecisionInvalid(why="elsewhere")  # what they are one thing with is not this account's to decide on
    now = {id: version for id, (_, version) in found.items()}
    if whole != matter.ids or now != versions:
        told = [{"record": str(id), "version": version} for id, version in sorted(now.items())]
        raise DecidedMeanwhile(records=told, groups=_told(matter.overlay, whole))
    return matter


def _found(session: Session, who: SignedIn, ids: Iterable[uuid.UUID]) -> dict[uuid.UUID, tuple[str, int]]:
    """(kind, version) of those of these that this account may decide on; a vendor is always as first told."""
    ids, found = list(ids), dict[uuid.UUID, tuple[str, int]]()
    for kind, model in MODELS.items():
        version = getattr(model, "version", literal(1))
        asked = select(model.id, version).where(among(session, model.id, ids), may_decide_on(model, who))
        found |= {id: (kind, seen) for id, seen in session.execute(asked)}
    return found


def _told(overlay: Overlay, ids: Iterable[uuid.UUID]) -> list[Json]:
    """The groups among these, as they are told everywhere."""
    laid = {overlay.group_of(id) for id in ids if len(overlay.group_of(id)) > 1}
    return [{"id": str(min(group)), "records": sorted(map(str, group))} for group in sorted(laid, key=min)]


# ---------------------------------------------------------------- what may be said


def _group(session: Session, who: SignedIn, said: Mapping[str, Any], matter: _Matter) -> Word:
    if len(matter.parts) < 2:
        raise DecisionInvalid(why="one-already")
    return Word(matter.kind, "group", matter.ids, said["reason"], who.account_id)


def _split(session: Session, who: SignedIn, said: Mapping[str, Any], matter: _Matter) -> Word:
    """Those that are off are told apart from the rest."""
    off = frozenset(said["off"])
    if len(matter.parts) != 1 or not off or not off < matter.ids:
        raise DecisionInvalid(why="no-part-of-one-group")
    apart = _weighed(session, [(one, other) for one in off for other in matter.ids - off])
    return Word(matter.kind, "split", off, said["reason"], who.account_id, apart)


def _apart(session: Session, who: SignedIn, said: Mapping[str, Any], matter: _Matter) -> Word:
    """What belongs to different groups is told apart, each from each."""
    if len(matter.parts) < 2:
        raise DecisionInvalid(why="one-already")
    apart = _weighed(session, [two for a, b in combinations(matter.parts, 2) for two in product(a, b)])
    return Word(matter.kind, "apart", matter.ids, said["reason"], who.account_id, apart)


def _weighed(
    session: Session, pairs: Iterable[tuple[uuid.UUID, uuid.UUID]]
) -> list[tuple[uuid.UUID, uuid.UUID, float | None]]:
    """The pairs, with the weight that spoke for each: more than that is something new."""
    ordered = sorted({grouping.pair(one, other) for one, other in pairs})
    of = Resemblance
    about = among(session, of.one_id, {one for one, _ in ordered})
    rows = session.execute(select(of.one_id, of.other_id, of.weight).where(about))
    weights = {(row.one_id, row.other_id): row.weight for row in rows}
    return [(one, other, weights.get((one, other))) for one, other in ordered]


def _undo(session: Session, who: SignedIn, said: Mapping[str, Any], matter: _Matter) -> Word:
    """All that made them one thing was wrong; or one word of it, or that they were told apart, which is named."""
    standing = grouping.standing([groups.as_said(row) for row in groups.said_of(session, matter.ids)])
    wrong = [each for each in standing if _is_meant(each, said["grouping"])]
    if not wrong:
        raise DecisionInvalid(why="nothing-said")
    records = matter.ids | {record for each in wrong for record in each.records}
    return Word(matter.kind, "undo", records, said["reason"], who.account_id, undoes=[each.id for each in wrong])


def _is_meant(each: Said, named: uuid.UUID | None) -> bool:
    return each.action in ("group", "split") if named is None else each.id == named


_SAY = {"group": _group, "split": _split, "apart": _apart, "undo": _undo}


# ---------------------------------------------------------------- what was said


def history(session: Session, who: SignedIn, record_id: uuid.UUID) -> Json:
    """What a record, or a vendor, is one thing with, and all that was said of them, in order. Raises NotFound."""
    if not _found(session, who, [record_id]):
        raise NotFound
    overlay = groups.overlay(session, [record_id])
    about = overlay.group_of(record_id)
    rows = groups.said_of(session, about)
    undone = {id for row in rows for id in row.undoes}
    who_said = among(session, Account.id, {row.account_id for row in rows if row.account_id})
    names = {account.id: account for account in session.scalars(select(Account).where(who_said))}
    told = _told(overlay, [record_id])
    return {"group": told[0] if told else None, "said": [_word(row, names, undone) for row in rows]}


def _word(row: Grouping, names: Mapping[int, Account], undone: Collection[str]) -> Json:
    by = names.get(row.account_id) if row.account_id else None
    return {
        "id": str(row.id),
        "action": row.action,
        "records": row.records,
        "apart": [[one, other] for one, other, _ in row.apart],
        "undoes": row.undoes,
        "undone": str(row.id) in undone,
        "reason": row.reason,
        "by": shapes.officer(by) if by else None,
        "at": shapes.instant(row.at),
    }
