"""Finds what resembles what: sketches, candidates, weighed, kept; and groups what was sent again.

    sketch each record of the transaction → candidates, one statement a kind → weigh them (`likeness`, pure) → keep
    those that are rather the same than not → group what was sent again

All pairs can't be compared. Candidates are those near in place and time, by the same officer from another installation,
with an equal photo, or with a vendor that may be the same. Who commits second finds the other: what was committed since
the first search is looked through once more when the counter is held (`conclude` in `settling`).
"""

from __future__ import annotations

import datetime as dt
import math
import uuid
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from importlib import resources
from itertools import chain
from pathlib import Path
from typing import Any

import orjson
from sqlalchemy import Double, Select, Uuid, and_, case, delete, false, func, or_, select, union, union_all
from sqlalchemy.orm import Session
from sqlalchemy.sql import ColumnElement

from sync import grouping, groups, vendors
from sync.fellegi_sunter import Table, bits_of, score_of
from sync.grouping import Overlay, Pair
from sync.groups import MODELS, Spoken, Word
from sync.journal import digest_of
from sync.likeness import KINDS, STANDING_M, Likeness, Sketch, is_resubmission, likeness, read_table, weight_or_none
from sync.models import (
    MOST_ERROR_OF_TILE_M,
    Account,
    AnnouncedPhoto,
    Apart,
    FeedEntry,
    Head,
    Incident,
    Installation,
    Link,
    Patrol,
    PhotoFacts,
    Resemblance,
    TokenFamily,
    UtcDateTime,
    VendorKey,
    among,
    as_rows,
    in_tile,
    tiles_around,
    upsert_rows,
)
from sync.places import METRES_PER_DEGREE_LAT, METRES_PER_DEGREE_LON

#: What a record resembles is told of, and kept, for so many at most: more than that is a crowd, no event told twice.
MOST_TOLD, MOST_KEPT = 5, 20
#: Candidates of one record at most, and how many of them, the nearest in time, are weighed: so that a crowd at one
#: place and moment costs what it must and no more. ESTIMATE: a market on its busiest morning.
MOST_CANDIDATES, MOST_WEIGHED = 100, 50
#: One event is written down by all who saw it within this time, and how far others' clocks may be off besides.
#: ESTIMATE: a talk and the rest of the street; a wall clock that nobody checked (clock.WALL_ERROR_MS).
APART, OTHERS_ERROR = dt.timedelta(minutes=30), dt.timedelta(minutes=15)
#: The same of records whose moment nobody knows, and of what a reinstalled app sends again. ESTIMATE: an outing.
OUTING = dt.timedelta(hours=12)
#: Positions are looked for within this many combined errors (`likeness.STANDING_M` among them).
REACH_ERRORS = 4.0
#: No position is so bad that a whole township is looked through, m.
MOST_REACH_M = 3_000.0

#: The columns of a record, by name.
State = Mapping[str, Any]

#: The free text of each kind; what of a record is no reference to another: two that agree in it say the same.
_TEXT = {"patrol": "purpose", "incident": "description", "warning": "text"}
_CONTENT: Mapping[str, tuple[str, ...]] = {
    "patrol": ("officers", "township", "purpose"),
    "incident": (
        *("items", "township", "event_class", "event_class_edition", "description", "measures", "designated_place"),
        *("parties", "no_penalty_reason"),
    ),
    "warning": ("township", "step", "text", "deadline_on", "response"),
}


#: All columns that a sketch is drawn from.
_OF_ALL_KINDS = (
    "id",
    "officer_id",
    "install_id",
    "occurred_at",
    "occurred_error_ms",
    "lon",
    "lat",
    "error_m",
    "photos",
)
_DRAWN: Mapping[str, tuple[str, ...]] = {
    "patrol": (*_OF_ALL_KINDS, *_CONTENT["patrol"]),
    "incident": (*_OF_ALL_KINDS, "patrol", "vendor_id", "vendor", *_CONTENT["incident"]),
    "warning": (*_OF_ALL_KINDS, "incident", "vendor_id", *_CONTENT["warning"]),
}


@dataclass(frozen=True, slots=True)
class Yardstick:
    """What likeness is measured by: the table of weights, and for each kind the score from which people are told."""

    table: Table
    told_from: Mapping[str, float]

    def told_from_bits(self, kind: str) -> float:
        """The same as a weight."""
        return bits_of(self.told_from[kind])


def read_weights(file: Path | None = None) -> Table:
    """The table of weights in this file, or the one that comes with the engine. Raises ValueError, OSError."""
    found = resources.files("sync").joinpath("likeness.json") if file is None else file
    return read_table(orjson.loads(found.read_bytes()))


# ---------------------------------------------------------------- what is looked at of a record


def sketch(kind: str, state: State, incident: State | None = None, crew: Iterable[str] = ()) -> Sketch:
    """What likeness looks at of a record with these columns, whose patrol's officers are this crew. A warning is about
    its incident's place, vendor and parties."""
    about = incident or state
    vendor_id = state.get("vendor_id") or about.get("vendor_id")
    told = about.get("vendor") if about.get("vendor_id") == vendor_id else None
    placed = state if state["lon"] is not None else about
    parties = about.get("parties") or ()
    return Sketch(
        id=state["id"],
        kind=kind,
        officer_id=state["officer_id"],
        install_id=state["install_id"],
        patrol_id=state["id"] if kind == "patrol" else about.get("patrol"),
        incident_id=state["incident"] if kind == "warning" else None,
        occurred_at=state["occurred_at"],
        occurred_error_ms=state["occurred_error_ms"],
        lon=placed["lon"],
        lat=placed["lat"],
        error_m=placed["error_m"],
        crew=frozenset(name.lower() for name in crew),
        items=frozenset(about.get("items") or ()),
        event_class=about.get("event_class"),
        vendor_id=vendor_id,
        vendor={name: value for name, value in (told or {}).items() if name != "id"},
        parties=frozenset(party[name] for party in parties for name in ("name", "phone") if party.get(name)),
        photos=frozenset(photo["sha256"] for photo in state["photos"]),
        text=state[_TEXT[kind]],
        content=_content(kind, state),
    )


def _content(kind: str, state: State) -> bytes:
    said = {name: state[name] for name in _CONTENT[kind] if state[name]}
    if state.get("vendor"):
        said["vendor"] = {name: value for name, value in state["vendor"].items() if name != "id"}
    return bytes.fromhex(digest_of(said)) if said else b""


def sketches(session: Session, kind: str, ids: Collection[uuid.UUID]) -> dict[uuid.UUID, Sketch]:
    """The sketches of these records as they are; those that are void have none."""
    if not ids:
        return {}
    table = MODELS[kind].__table__.c
    asked = select(*(table[name] for name in _DRAWN[kind])).where(among(session, table.id, ids))
    return sketched(session, kind, _states(session, asked.where(table.voided_at.is_(None))))


def _states(session: Session, asked: Select[Any]) -> list[State]:
    result = session.execute(asked)
    names = list(result.keys())
    return [dict(zip(names, row, strict=True)) for row in result]


def sketched(session: Session, kind: str, rows: Sequence[State]) -> dict[uuid.UUID, Sketch]:
    """The sketches of the records with these columns; what they hang on is looked up."""
    if kind == "patrol":
        return {row["id"]: sketch(kind, row, crew=row["officers"]) for row in rows}
    of_warnings = {row["incident"] for row in rows} if kind == "warning" else set()
    incidents = incidents_of(session, of_warnings)
    about = {row["id"]: incidents[row["incident"]] if of_warnings else row for row in rows}
    crews = _crews(session, {incident["patrol"] for incident in about.values()})
    return {row["id"]: sketch(kind, row, about[row["id"]], crews[about[row["id"]]["patrol"]]) for row in rows}


def incidents_of(session: Session, ids: Collection[uuid.UUID]) -> dict[uuid.UUID, State]:
    """The columns of these incidents, which warnings are about."""
    table = Incident.__table__
    rows = _states(session, select(table).where(among(session, table.c.id, ids))) if ids else ()
    return {row["id"]: row for row in rows}


def _crews(session: Session, patrols: Collection[uuid.UUID]) -> dict[uuid.UUID, list[str]]:
    """The officers of each of these patrols, as it names them."""
    asked = select(Patrol.id, Patrol.officers).where(among(session, Patrol.id, patrols))
    return {row.id: row.officers for row in session.execute(asked)} if patrols else {}


def with_pictures(session: Session, all_: dict[uuid.UUID, Sketch]) -> dict[uuid.UUID, Sketch]:
    """The sketches, with what is known of how their photos look."""
    names = {name for each in all_.values() for name in each.photos}
    if not names:
        return all_
    asked = select(PhotoFacts.sha256, PhotoFacts.dhash).where(PhotoFacts.dhash.is_not(None))
    known = {
        row.sha256: int(row.dhash, 16) for row in session.execute(asked.where(among(session, PhotoFacts.sha256, names)))
    }
    looked_at = {id: each for id, each in all_.items() if not known.keys().isdisjoint(each.photos)}
    return all_ | {
        id: replace(each, dhashes=tuple(sorted(known[name] for name in each.photos if name in known)))
        for id, each in looked_at.items()
    }


# ---------------------------------------------------------------- candidates

_MOMENT = UtcDateTime()


@dataclass(frozen=True, slots=True)
class _Hints:
    """What is asked once for all kinds: the officers who have had several installations, and the vendors who are known
    by the telephones and plates that these records tell."""

    several: frozenset[int]
    known_by: Mapping[str, Collection[uuid.UUID]]

    def vendors_of(self, each: Sketch) -> set[uuid.UUID]:
        """The vendors whom the record may be about."""
        known = {vendor for key in _keys(each) for vendor in self.known_by.get(key, ())}
        return known | ({each.vendor_id} if each.vendor_id else set())


#: One way to find candidates for these sketches among the records of a kind: (record, candidate), or nothing to ask.
Block = Callable[[Session, Any, Sequence[Sketch], _Hints], "Select[Any] | None"]


def _hints(session: Session, of: Collection[Sketch]) -> _Hints:
    officers = {each.officer_id for each in of}
    signed_in = union(
        select(Installation.account_id, Installation.id).where(among(session, Installation.account_id, officers)),
        select(TokenFamily.account_id, TokenFamily.install_id).where(among(session, TokenFamily.account_id, officers)),
    ).subquery()
    several = select(signed_in.c.account_id).group_by(signed_in.c.account_id).having(func.count() > 1)
    keys, known_by = {key for each in of for key in _keys(each)}, defaultdict[str, list[uuid.UUID]](list)
    asked = select(VendorKey.key, VendorKey.vendor_id).where(among(session, VendorKey.key, keys))
    for key, vendor_id in session.execute(asked) if keys else ():
        known_by[key].append(vendor_id)
    return _Hints(frozenset(session.scalars(several)), known_by)


def _keys(each: Sketch) -> list[str]:
    return vendors.keys(each.vendor, None) if each.vendor else []


def _window(each: Sketch, apart: dt.timedelta) -> tuple[dt.datetime, dt.datetime]:
    """From when until when something may have occurred to be the same."""
    if each.occurred_error_ms is None:
        apart = max(apart, OUTING)
    slack = apart + OTHERS_ERROR + min(dt.timedelta(milliseconds=each.occurred_error_ms or 0), OUTING)
    return each.occurred_at - slack, each.occurred_at + slack


def _around(session: Session, model: Any, of: Sequence[Sketch], _: _Hints) -> Select[Any] | None:
    """Near in place and time. A warning is where its incident is, which is asked for in its stead."""
    rows = [
        (each.id, tile, each.lon, each.lat, each.error_m or 0.0, *_window(each, APART))
        for each in of
        if each.lon is not None and each.lat is not None
        for tile in tiles_around(session, each.lon, each.lat, _reach_deg(each))
    ]
    if not rows:
        return None
    place: dict[str, Any] = {"tile": Double(), "east": Double(), "north": Double(), "own_error_m": Double()}
    p = as_rows(session, "around", {"record": Uuid(), **place, "from_at": _MOMENT, "until_at": _MOMENT}, rows).c
    east_m, north_m = (Incident.lon - p.east) * METRES_PER_DEGREE_LON, (Incident.lat - p.north) * METRES_PER_DEGREE_LAT
    error_m2 = p.own_error_m * p.own_error_m + Incident.error_m * Incident.error_m + STANDING_M * STANDING_M
    here = and_(
        in_tile(session, p.tile),
        Incident.occurred_at.between(p.from_at, p.until_at),
        east_m * east_m + north_m * north_m <= REACH_ERRORS * REACH_ERRORS * error_m2,
    )
    if model is Incident:
        return select(p.record, Incident.id).where(here)
    near = select(p.record, Incident.id, p.from_at, p.until_at).where(here).subquery()
    in_time = model.occurred_at.between(near.c.from_at, near.c.until_at)
    return select(near.c.record, model.id).join(model, model.incident == near.c.id).where(in_time)


def _reach_deg(each: Sketch) -> float:
    """How far from a record others may lie that have tiles of their own, degrees."""
    reach_m = REACH_ERRORS * math.hypot(each.error_m or 0.0, MOST_ERROR_OF_TILE_M, STANDING_M)
    return min(reach_m, MOST_REACH_M) / METRES_PER_DEGREE_LON


def _by_the_same_officer(session: Session, model: Any, of: Sequence[Sketch], hints: _Hints) -> Select[Any] | None:
    """From another installation: what a reinstalled app sends again."""
    theirs = [each for each in of if each.officer_id in hints.several]
    rows = [(each.id, each.officer_id, each.install_id, *_window(each, OUTING)) for each in theirs]
    if not rows:
        return None
    who = {"officer": model.__table__.c.officer_id.type, "install": Uuid()}
    p = as_rows(session, "officer", {"record": Uuid(), **who, "from_at": _MOMENT, "until_at": _MOMENT}, rows).c
    again = and_(model.officer_id == p.officer, model.install_id != p.install)
    return select(p.record, model.id).where(again, model.occurred_at.between(p.from_at, p.until_at))


def _with_an_equal_photo(session: Session, model: Any, of: Sequence[Sketch], _: _Hints) -> Select[Any] | None:
    rows = [(each.id, name) for each in of for name in each.photos]
    if not rows:
        return None
    columns: dict[str, Any] = {"record": Uuid(), "sha256": AnnouncedPhoto.__table__.c.sha256.type}
    p = as_rows(session, "photo", columns, rows).c
    cites = and_(AnnouncedPhoto.sha256 == p.sha256, AnnouncedPhoto.record_id == model.id)
    return select(p.record, model.id).where(cites)


def _with_the_same_vendor(session: Session, model: Any, of: Sequence[Sketch], hints: _Hints) -> Select[Any] | None:
    """With this vendor, or with one that is known by the same telephone or plate."""
    rows = [(each.id, vendor, *_window(each, APART)) for each in of for vendor in hints.vendors_of(each)]
    if not rows:
        return None
    columns: dict[str, Any] = {"record": Uuid(), "vendor": Uuid(), "from_at": _MOMENT, "until_at": _MOMENT}
    p = as_rows(session, "vendor", columns, rows).c
    theirs = and_(model.vendor_id == p.vendor, model.occurred_at.between(p.from_at, p.until_at))
    return select(p.record, model.id).where(theirs)


def _by_a_partner(session: Session, model: Any, of: Sequence[Sketch], _: _Hints) -> Select[Any] | None:
    """By another officer of the crew, where place tells nothing: both set out, or the record has no position."""
    return _partners(session, model, [each for each in of if each.lon is None or each.kind == "patrol"])


def _by_a_partner_somewhere(session: Session, model: Any, of: Sequence[Sketch], _: _Hints) -> Select[Any] | None:
    """By another officer of the crew who had no position then."""
    theirs = _partners(session, model, [each for each in of if each.lon is not None])
    return None if theirs is None else theirs.where(model.lon.is_(None))


def _partners(session: Session, model: Any, of: Sequence[Sketch]) -> Select[Any] | None:
    rows = [(each.id, name, each.officer_id, *_window(each, APART)) for each in of for name in each.crew]
    if not rows:
        return None
    who = {"name": Account.__table__.c.username.type, "officer": model.__table__.c.officer_id.type}
    p = as_rows(session, "partner", {"record": Uuid(), **who, "from_at": _MOMENT, "until_at": _MOMENT}, rows).c
    partner = and_(Account.username == p.name, Account.id != p.officer, model.officer_id == Account.id)
    return select(p.record, model.id).where(partner, model.occurred_at.between(p.from_at, p.until_at))


_OF_ALL: tuple[Block, ...] = (_by_the_same_officer, _by_a_partner, _with_an_equal_photo)
_OF_PLACES: tuple[Block, ...] = (_around, *_OF_ALL, _with_the_same_vendor)
_BLOCKS: Mapping[str, tuple[Block, ...]] = {
    "patrol": _OF_ALL,
    "incident": (*_OF_PLACES, _by_a_partner_somewhere),
    "warning": _OF_PLACES,
}


def _found(
    session: Session, kind: str, of: Sequence[Sketch], hints: _Hints, changed: Collection[uuid.UUID] | None
) -> Sequence[Pair]:
    """The pairs that are worth weighing, of these records with any others; or with those that have `changed`."""
    model = MODELS[kind]
    blocks = [block for ask in _BLOCKS[kind] if (block := ask(session, model, of, hints)) is not None]
    if not blocks:
        return ()
    asked_for = model.voided_at.is_(None)
    if changed is not None:
        asked_for &= among(session, model.id, changed)
    found = union(*(block.where(asked_for) for block in blocks)).subquery("found")
    record, other = found.c
    rank = func.row_number().over(partition_by=record, order_by=other).label("rank")
    ranked = select(record.label("record"), other.label("other"), rank).where(record != other).subquery("ranked")
    ordered = case((ranked.c.record < ranked.c.other, ranked.c.record), else_=ranked.c.other)
    behind = case((ranked.c.record < ranked.c.other, ranked.c.other), else_=ranked.c.record)
    few = select(ordered, behind).where(ranked.c.rank <= MOST_CANDIDATES).distinct()
    return [(one, two) for one, two in session.execute(few)]


# ---------------------------------------------------------------- searching


@dataclass(frozen=True, slots=True)
class Search:
    """What was found for the records of a transaction, and up to which link of the chain that was looked through."""

    sketches: dict[uuid.UUID, Sketch]
    weights: dict[Pair, float]
    number: int


def search(session: Session, of: Mapping[uuid.UUID, Sketch], yardstick: Yardstick) -> Search:
    """What these records resemble among all that can be seen now."""
    number = session.scalars(select(Head.number)).one()
    return Search(*_weighed(session, of, yardstick, None), number)


def search_on(
    session: Session, of: Mapping[uuid.UUID, Sketch], yardstick: Yardstick, earlier: Search, number: int
) -> Search:
    """The same, with what was committed since that search, up to the link of this number. The caller holds the
    counter: it is everything."""
    if number == earlier.number:
        return earlier
    changed = select(FeedEntry.entity).join(Link, Link.key == FeedEntry.link_key)
    changed = changed.where(Link.number > earlier.number, FeedEntry.kind.in_(KINDS))
    drawn, weights = _weighed(session, of, yardstick, [uuid.UUID(entity) for entity in session.scalars(changed)])
    return Search({**earlier.sketches, **drawn}, {**earlier.weights, **weights}, number)


def _weighed(
    session: Session, of: Mapping[uuid.UUID, Sketch], yardstick: Yardstick, changed: Collection[uuid.UUID] | None
) -> tuple[dict[uuid.UUID, Sketch], dict[Pair, float]]:
    drawn, few = candidates(session, of, changed)
    return drawn, _weigh(few, drawn, yardstick)


def candidates(
    session: Session, of: Mapping[uuid.UUID, Sketch], changed: Collection[uuid.UUID] | None = None
) -> tuple[dict[uuid.UUID, Sketch], Sequence[Pair]]:
    """The pairs of these records with any others, or with those that have `changed`, that are worth weighing; and the
    sketches of all of them. The number of queries does not grow with them."""
    pairs, drawn = list[Pair](), dict(of)
    if not of or changed == []:
        return drawn, pairs
    hints = _hints(session, of.values())
    for kind in KINDS:
        mine = [each for each in of.values() if each.kind == kind]
        found = _found(session, kind, mine, hints, changed) if mine else ()
        drawn |= sketches(session, kind, {id for two in found for id in two} - drawn.keys())
        pairs += [two for two in found if two[0] in drawn and two[1] in drawn]
    few = _nearest(pairs, drawn)
    return drawn | with_pictures(session, {id: drawn[id] for two in few for id in two}), few


def _nearest(pairs: Sequence[Pair], drawn: Mapping[uuid.UUID, Sketch]) -> Sequence[Pair]:
    """Of the pairs of each record those that are nearest in time, where they are a crowd."""
    if not pairs or max(Counter(chain.from_iterable(pairs)).values()) <= MOST_WEIGHED:
        return pairs
    of_record: dict[uuid.UUID, list[tuple[dt.timedelta, Pair]]] = defaultdict(list)
    for one, other in pairs:
        apart = abs(drawn[one].occurred_at - drawn[other].occurred_at)
        of_record[one].append((apart, (one, other)))
        of_record[other].append((apart, (one, other)))
    return sorted({two for found in of_record.values() for _, two in sorted(found)[:MOST_WEIGHED]})


def _weigh(pairs: Iterable[Pair], drawn: Mapping[uuid.UUID, Sketch], yardstick: Yardstick) -> dict[Pair, float]:
    least, weights = {kind: yardstick.told_from_bits(kind) for kind in KINDS}, dict[Pair, float]()
    for two in pairs:
        one, other = drawn[two[0]], drawn[two[1]]
        weight = weight_or_none(one, other, yardstick.table, least[one.kind])
        if weight is not None and weight >= least[one.kind]:
            weights[two] = weight
    return weights


# ---------------------------------------------------------------- keeping


def keep(
    session: Session, found: Search, known: Collection[uuid.UUID], yardstick: Yardstick, *, now: dt.datetime
) -> None:
    """What was found is kept; what these records, `known` before, resembled by what they said then is forgotten."""
    if known:
        forget(session, known)
    rows = []
    for one, other in _best(found.weights):
        answer = likeness(found.sketches[one], found.sketches[other], yardstick.table)
        rows.append(kept(found.sketches[one].kind, (one, other), answer, now))
    upsert_rows(session, Resemblance, rows)


def forget(session: Session, ids: Collection[uuid.UUID]) -> None:
    """What these resemble is kept no more."""
    stale = or_(among(session, Resemblance.one_id, ids), among(session, Resemblance.other_id, ids))
    session.execute(delete(Resemblance).where(stale))


def kept(kind: str, two: Pair, answer: Likeness, now: dt.datetime) -> dict[str, Any]:
    """A resemblance as a row."""
    evidence = [asdict(piece) for piece in answer.evidence]
    told = {"kind": kind, "weight": answer.weight, "evidence": evidence, "weights": answer.version, "found_at": now}
    return {"one_id": two[0], "other_id": two[1], **told}


def _best(weights: Mapping[Pair, float]) -> Iterator[Pair]:
    """The pairs by which each record resembles others most."""
    kept: Counter[uuid.UUID] = Counter()
    for two in sorted(weights, key=lambda two: (-weights[two], two)):
        if max(kept[id] for id in two) < MOST_KEPT:
            kept.update(two)
            yield two


# ---------------------------------------------------------------- what was sent again


def group_sent_again(session: Session, found: Search, *, now: dt.datetime) -> list[Spoken]:
    """What was sent again is one thing with what it repeats, unless anybody ever said anything of the two. The caller
    holds the counter. Incidents first: what they are one thing with tells it of their warnings."""
    likely = [two for two in found.weights if _is_again(found.sketches, two, same_incident=True)]
    if not likely:
        return []
    fresh = set(likely) - groups.judged(session, likely)
    spoken = []
    for kind in KINDS:
        of_kind = [two for two in sorted(fresh) if found.sketches[two[0]].kind == kind]
        if kind == "warning" and of_kind:
            of_kind = _of_the_same_incident(session, found.sketches, of_kind)
        if words := [Word(kind, "group", two, SENT_AGAIN) for two in _spanning(of_kind)]:
            spoken.append(groups.say(session, words, now=now))
    return spoken


#: Why the server grouped records by itself.
SENT_AGAIN = "sent-again"


def _is_again(drawn: Mapping[uuid.UUID, Sketch], two: Pair, *, same_incident: bool) -> bool:
    return is_resubmission(drawn[two[0]], drawn[two[1]], same_incident=same_incident)


def _of_the_same_incident(session: Session, drawn: Mapping[uuid.UUID, Sketch], pairs: Sequence[Pair]) -> list[Pair]:
    about = {id: incident for two in pairs for id in two if (incident := drawn[id].incident_id)}
    one_thing = groups.groups_of(session, about.values())
    return [
        (one, other)
        for one, other in pairs
        if _is_again(drawn, (one, other), same_incident=about[other] in one_thing.get(about[one], ()))
    ]


def _spanning(pairs: Iterable[Pair]) -> Iterator[Pair]:
    """As many of the pairs as it takes for all that they join to be one thing."""
    joined = Overlay()
    for one, other in pairs:
        if other not in joined.group_of(one):
            grouping.join(joined, (one, other))
            yield one, other


# ---------------------------------------------------------------- telling


def told_apart() -> ColumnElement[bool]:
    """True for resemblances of records that somebody told apart, and nothing new speaks for them since."""
    same_pair = and_(Apart.one_id == Resemblance.one_id, Apart.other_id == Resemblance.other_id)
    enough = Resemblance.weight <= func.coalesce(Apart.weight, 0.0) + grouping.NEW_EVIDENCE_BITS
    return select(Apart.one_id).where(same_pair, enough).exists()


def told_alike(kind: Any, weight: Any, yardstick: Yardstick) -> ColumnElement[bool]:
    """True for the weights that people are told of."""
    return or_(false(), *(and_(kind == each, weight >= yardstick.told_from_bits(each)) for each in yardstick.told_from))


def resembled(
    session: Session, ids: Collection[uuid.UUID], yardstick: Yardstick
) -> dict[uuid.UUID, list[dict[str, Any]]]:
    """What each of these records resembles, the most alike first: `record`, `score`, and whether they are `grouped`."""
    if not ids:
        return {}
    # one of two statements by index each: an array would be gone through for every pair that is kept
    asked = as_rows(session, "asked", {"record": Uuid()}, [(id,) for id in ids])
    sides = ((Resemblance.one_id, Resemblance.other_id), (Resemblance.other_id, Resemblance.one_id))
    told = union_all(
        *(
            select(mine.label("record"), theirs.label("other"), Resemblance.weight)
            .join(asked, asked.c.record == mine)
            .where(told_alike(Resemblance.kind, Resemblance.weight, yardstick), ~told_apart())
            for mine, theirs in sides
        )
    ).subquery()
    rows = session.execute(select(told).order_by(told.c.weight.desc(), told.c.other)).all()
    one_thing = groups.groups_of(session, {row.record for row in rows}) if rows else {}
    found: dict[uuid.UUID, list[dict[str, Any]]] = defaultdict(list)
    for row in rows:
        if len(found[row.record]) < MOST_TOLD:
            score, grouped = round(score_of(row.weight), 4), row.other in one_thing.get(row.record, ())
            found[row.record].append({"record": str(row.other), "score": score, "grouped": grouped})
    return found
