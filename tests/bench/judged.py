"""What likeness makes of days whose truth is known: what it finds, what it proposes wrongly, what it would group alone.

Here everything is computed from what phones send, without a database: sketches as the engine makes them, and every pair
that may be found at all. That is what weights are estimated from (on days of one seed) and measured with (on others).
"""

from __future__ import annotations

import datetime as dt
import uuid
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import combinations
from typing import Any, TypeVar

import numpy as np
import orjson

from sync.clock import arrived, occurred
from sync.fellegi_sunter import Table, score_of
from sync.likeness import COMPARATORS, KINDS, STANDING_M, Sketch, is_resubmission, scale_name, weight_or_none
from sync.places import position
from sync.resemblances import APART, OTHERS_ERROR, OUTING, REACH_ERRORS, sketch
from sync.vendors import keys
from sync.wire import complete, recognise, stamp_of
from tests.bench.doubles import SAME, Day, Json, Sending, Told, case

_Name = TypeVar("_Name")
_METRES_PER_DEGREE = np.array([96_377.0, 110_860.0])  # at 30.1° N


# ---------------------------------------------------------------- sketches


def sketches(day: Day) -> list[Sketch]:
    """A sketch of every record of the day, as the engine has it once all has arrived and photos were looked at."""
    sent = [(sending, op) for sending in day.sendings for op in sending.envelope["ops"]]
    states = {uuid.UUID(op["record"]): _state(sending, op) for sending, op in sent}
    made = [_sketch(_kind(op), states[uuid.UUID(op["record"])], states) for _, op in sent]
    return [replace(each, dhashes=tuple(sorted(day.album.dhashes[photo] for photo in each.photos))) for each in made]


def _sketch(kind: str, state: Json, states: dict[uuid.UUID, Json]) -> Sketch:
    incident = states[state["incident"]] if kind == "warning" else None
    patrol = state if kind == "patrol" else states[(incident or state)["patrol"]]
    return sketch(kind, state, incident, patrol["officers"])


def _kind(op: Json) -> str:
    return str(op["kind"]).split(".")[0]


def _state(sending: Sending, op: Json) -> Json:
    """The columns of a record that likeness asks for. Officers count from 0, as in their names."""
    operation = recognise(op, orjson.dumps(op))
    complete(operation)
    assert operation.problem is None, operation.problem
    came = arrived(sending.at, stamp_of(sending.envelope["sent"]), 0)
    when, (where, _) = occurred(operation.at, came), position(operation.fix)
    vendor = operation.fields.get("vendor")
    told = {"vendor_id": vendor and vendor["id"]} if isinstance(vendor, dict) else {"vendor_id": vendor, "vendor": None}
    return (
        operation.fields
        | told
        | {
            "id": operation.record,
            "officer_id": int(sending.username.rpartition("-")[2]),
            "install_id": uuid.UUID(sending.install),
            "occurred_at": when.at,
            "occurred_error_ms": when.error_ms,
            "lon": where and where.lon,
            "lat": where and where.lat,
            "error_m": where and where.error_m,
            "photos": operation.photos,
        }
    )


# ---------------------------------------------------------------- pairs


def candidates(of_a_kind: Sequence[Sketch]) -> set[tuple[int, int]]:
    """The pairs (by their places in the list) that `resemblances` looks for, found without a database."""
    near = _near(of_a_kind) if of_a_kind and of_a_kind[0].kind != "patrol" else np.zeros((0, 0))
    found = {(int(a), int(b)) for a, b in zip(*np.nonzero(near), strict=True) if a < b}
    for told, apart in ((_photos, None), (_vendors, APART), (_officer, OUTING), (_crew, APART)):
        by_key: dict[Any, list[int]] = defaultdict(list)
        for number, each in enumerate(of_a_kind):
            for key in told(each):
                by_key[key].append(number)
        for a, b in (pair for numbers in by_key.values() for pair in combinations(numbers, 2)):
            one, other = of_a_kind[a], of_a_kind[b]
            elsewhere = told not in (_officer, _crew) or one.install_id != other.install_id
            worth_it = told is not _crew or one.kind == "patrol" or one.lon is None or other.lon is None
            if elsewhere and worth_it and _in_time(one, other, apart):
                found.add((a, b))
    return found


def _near(of_a_kind: Sequence[Sketch]) -> Any:
    where = np.array([(s.lon or np.nan, s.lat or np.nan) for s in of_a_kind]) * _METRES_PER_DEGREE
    error_m2 = np.array([(s.error_m or 0.0) ** 2 for s in of_a_kind])
    when_s = np.array([s.occurred_at.timestamp() for s in of_a_kind])
    apart_m2 = ((where[:, None, :] - where[None, :, :]) ** 2).sum(axis=2)
    soon = np.abs(when_s[:, None] - when_s[None, :]) <= (APART + OTHERS_ERROR).total_seconds()
    return soon & (apart_m2 <= REACH_ERRORS**2 * (error_m2[:, None] + error_m2[None, :] + STANDING_M**2))


def _in_time(one: Sketch, other: Sketch, apart: dt.timedelta | None) -> bool:
    return apart is None or abs(one.occurred_at - other.occurred_at) <= apart + OTHERS_ERROR


def _photos(each: Sketch) -> Iterable[Any]:
    return each.photos


def _vendors(each: Sketch) -> Iterable[Any]:
    return [*keys(each.vendor, None), *([each.vendor_id] if each.vendor_id else [])]


def _officer(each: Sketch) -> Iterable[Any]:
    return [each.officer_id]


def _crew(each: Sketch) -> Iterable[Any]:
    """Of partners the records without a position, each with all of the crew's, and patrols."""
    return each.crew


@dataclass(frozen=True, slots=True)
class Judged:
    """A pair, what it truly is, what it weighs (`None`: less than asked, or never compared), whether it would be
    grouped alone."""

    one: Sketch
    other: Sketch
    case: str
    found: bool
    weight: float | None
    grouped: bool


def judged(day: Day, table: Table, least_bits: float = -30.0) -> list[Judged]:
    """Every candidate of the day, and every pair that is the same whether it is found or not."""
    made = sketches(day)
    judgements: list[Judged] = []
    grouped: set[frozenset[uuid.UUID]] = set()
    for kind in KINDS:
        of_a_kind = [each for each in made if each.kind == kind]
        for one, other, truth, found in _pairs(day, of_a_kind):
            incidents = frozenset(i for i in (one.incident_id, other.incident_id) if i)
            alone = found and is_resubmission(one, other, same_incident=incidents in grouped)
            if alone:
                grouped.add(frozenset((one.id, other.id)))
            weight = weight_or_none(one, other, table, least_bits) if found else None
            judgements.append(Judged(one, other, truth, found, weight, alone))
    return judgements


def _pairs(day: Day, of_a_kind: Sequence[Sketch]) -> Iterator[tuple[Sketch, Sketch, str, bool]]:
    found = candidates(of_a_kind)
    told = {number: day.told[str(each.id)] for number, each in enumerate(of_a_kind)}
    for a, b in sorted(found | same_events(told)):
        yield of_a_kind[a], of_a_kind[b], case(told[a], told[b]), (a, b) in found


def same_events(told: Mapping[_Name, Told]) -> set[tuple[_Name, _Name]]:
    """The pairs of these records, by whatever names them, that tell of one event."""
    by_event: dict[str, list[_Name]] = defaultdict(list)
    for name, each in told.items():
        by_event[each.event].append(name)
    return {pair for names in by_event.values() for pair in combinations(names, 2)}


def levels(day: Day, table: Table) -> Iterator[tuple[str, dict[str, str], bool]]:
    """Of every candidate of the day its scale, the levels at which it agrees, and whether it is the same: what weights
    are estimated from."""
    for pair in judged(day, table):
        if pair.found:
            name = scale_name(pair.one, pair.other)
            yield name, dict(table.scales[name].levels(COMPARATORS, pair.one, pair.other)), pair.case in SAME


# ---------------------------------------------------------------- figures


@dataclass
class Figures:
    """Counts over days, by kind and case: pairs, those found, proposed (from the score of their kind on) and grouped
    without asking."""

    told_from: Mapping[str, float]
    records: int = 0
    pairs: Counter[tuple[str, str]] = field(default_factory=Counter)
    found: Counter[tuple[str, str]] = field(default_factory=Counter)
    proposed: Counter[tuple[str, str]] = field(default_factory=Counter)
    grouped: Counter[tuple[str, str]] = field(default_factory=Counter)

    def add(self, day: Day, judgements: Iterable[Judged]) -> None:
        """This day is counted too."""
        self.records += len(day.told)
        for pair in judgements:
            score = 0.0 if pair.weight is None else score_of(pair.weight)
            self.count(pair.one.kind, pair.case, found=pair.found, score=score, grouped=pair.grouped)

    def count(self, kind: str, case: str, *, found: bool, score: float, grouped: bool) -> None:
        """One more pair."""
        key = kind, case
        self.pairs[key] += 1
        self.found[key] += found
        self.proposed[key] += score >= self.told_from[kind]
        self.grouped[key] += grouped

    def share(self, of: Counter[tuple[str, str]], cases: Sequence[str] = SAME) -> float:
        """Of the pairs of these cases, those counted."""
        return _of(of, cases) / max(1, _of(self.pairs, cases))

    def wrong(self, of: Counter[tuple[str, str]], per: int) -> float:
        """Of the pairs that are not the same, those counted, per so many records."""
        return (of.total() - _of(of, SAME)) * per / self.records

    def lines(self) -> Iterator[str]:
        """A table by kind and case, and the four figures that count."""
        yield f"{'':10} {'case':24} {'pairs':>8} {'found':>8} {'proposed':>9} {'grouped':>8}"
        for kind, name in sorted(self.pairs, key=lambda key: (KINDS.index(key[0]), key[1] not in SAME, key[1])):
            counts = [each[kind, name] for each in (self.pairs, self.found, self.proposed, self.grouped)]
            yield f"{kind:10} {name:24} {counts[0]:8,} {counts[1]:8,} {counts[2]:9,} {counts[3]:8,}"
        yield f"records {self.records:,}; blocking recall {self.share(self.found):.4f}"
        yield f"recall {self.share(self.proposed):.4f}, wrong proposals per 100 {self.wrong(self.proposed, 100):.3f}"
        sent_again, wrong = self.share(self.grouped, SAME[:1]), self.wrong(self.grouped, 10_000)
        yield f"grouped alone {sent_again:.4f} of what was sent again, wrongly {wrong:.2f} in 10,000"


def _of(counter: Counter[tuple[str, str]], cases: Sequence[str]) -> int:
    return sum(count for (_, name), count in counter.items() if name in cases)
