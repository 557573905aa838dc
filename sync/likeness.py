"""Decides: how much two records resemble each other, and whether one is the other sent again.

Three different things look alike: a record sent again by a reinstalled app, one event reported by two officers, and a
repeat offence, the same vendor back three hours later, which is no event twice but two. So place and time weigh most,
each against how sure both records are of it, and everything that tells of the vendor is one facet among others.

What is compared stands here; what it weighs stands in `likeness.json`, one table with a version and its reasons. Every
answer explains itself. It is the same for the same two records, whichever came first. Nothing is decided by it: what
resembles waits for a person, but for what `is_resubmission` (protocol.md §8).
"""

from __future__ import annotations

import datetime as dt
import math
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from operator import attrgetter
from typing import Any

from sync import fellegi_sunter
from sync.fellegi_sunter import Comparators, Table, Thing, check_known, score_of
from sync.names import name_level, phone_level, plate_level, stall_level, text_level
from sync.places import UNDECLARED_ACCURACY_M, distance_m, wgs84_from_gcj02

#: How far from each other two people stand who write down the same stall, m. ESTIMATE: the width of a pavement.
STANDING_M = 15.0
#: Up to this combined error a position tells stalls apart, or streets; beyond it only quarters. m. ESTIMATE.
FINE_M, ROUGH_M = 40.0, 150.0
#: Positions of one place lie within this many combined errors in 92 of 100 cases, or almost always. An accuracy is the
#: radius that holds 68 of 100 readings (Android's Location.getAccuracy), so 1 - 0.32 ** (n * n) of them lie within n.
WITHIN, BESIDE = 1.5, 3.0
#: Positions nearer than this come from one reading, m.
SAME_FIX_M = 0.1
#: How far GCJ-02 taken for WGS 84 may be off in China, m; only then it is worth a look. traps.md: 489–528 in Xiaoshan.
SHIFT_FROM_M, SHIFT_UNTIL_M = 300.0, 800.0
#: Times nearer than this are of one moment, s: the phones' clocks are read to the second.
SAME_MOMENT_S = 1.0
#: Up to this combined error a time tells visits to a stall apart, or almost; beyond it only outings. s. ESTIMATE.
FINE_S, ROUGH_S = 60.0, 300.0
#: Two officers at one stall write it down within this time; s. ESTIMATE: a talk with the vendor.
TALK_S = 600.0
#: Who comes by again comes after this time at least, s. ESTIMATE: the way around a block.
ROUND_S, HOURS_S = 2_700.0, 10_800.0
#: Pictures whose dHash differs in so many of 64 bits are one, re-encoded or watermarked (traps.md).
SAME_PICTURE_BITS = 10
#: A dHash with fewer bits of one kind is of a picture without detail (a wall, the night) and tells nothing. ESTIMATE.
PLAIN_BITS = 8
#: Characters of a text that evidence shows.
_SHOWN = 120


@dataclass(frozen=True, slots=True)
class Sketch:
    """All of a record that likeness looks at. `patrol_id` is the patrol it belongs to (a patrol's own).

    `occurred_error_ms` is `None` where nobody knows when it happened; a warning without a fix has its incident's.
    `photos` are the SHA-256 announced, `dhashes` of those that somebody looked at; `content` is the digest of all that
    the record says, without the ids of other records, and empty where that is nothing.
    """

    id: uuid.UUID
    kind: str
    officer_id: int
    install_id: uuid.UUID
    patrol_id: uuid.UUID | None
    incident_id: uuid.UUID | None
    occurred_at: dt.datetime
    occurred_error_ms: int | None
    lon: float | None
    lat: float | None
    error_m: float | None
    items: frozenset[str] = frozenset()
    event_class: str | None = None
    vendor_id: uuid.UUID | None = None
    vendor: Mapping[str, str | None] = field(default_factory=dict)
    photos: frozenset[str] = frozenset()
    dhashes: tuple[int, ...] = ()
    text: str | None = None
    content: bytes = b""


@dataclass(frozen=True, slots=True)
class Evidence:
    """One piece of evidence: at which level two records agree in it, and how many bits that counts for.

    `values` are what both say, that of the smaller id first, or figures by their names.
    """

    name: str
    level: str
    values: tuple[Any, Any] | Mapping[str, Any]
    weight: float


#: What a piece of evidence shows of two things, that of the smaller id first.
Values = Callable[[str, Thing, Thing], tuple[Any, Any] | Mapping[str, Any]]


@dataclass(frozen=True, slots=True)
class Likeness:
    """How much two records resemble each other: bits, as a probability, and why, the strongest evidence first."""

    weight: float
    score: float
    evidence: tuple[Evidence, ...]
    version: str


# ---------------------------------------------------------------- where and when


def _apart_m(one: Sketch, other: Sketch) -> float | None:
    if one.lon is None or one.lat is None or other.lon is None or other.lat is None:
        return None
    return distance_m(one.lon, one.lat, other.lon, other.lat)


def _error_m(one: Sketch, other: Sketch) -> float:
    """The combined error of both positions, m: their accuracies, and that people don't stand on each other's feet."""
    return math.hypot(_accuracy_m(one), _accuracy_m(other), STANDING_M)


def _accuracy_m(sketch: Sketch) -> float:
    return UNDECLARED_ACCURACY_M if sketch.error_m is None else sketch.error_m


def _distance(one: Sketch, other: Sketch) -> str | None:
    """Agreement of rough positions says little, so the level also tells how rough they are."""
    apart_m = _apart_m(one, other)
    if apart_m is None:
        return None
    if apart_m < SAME_FIX_M:
        return "same-fix"
    error_m = _error_m(one, other)
    if apart_m > BESIDE * error_m:
        return "shifted" if SHIFT_FROM_M < apart_m < SHIFT_UNTIL_M and _shifted(one, other, error_m) else "beyond"
    grain = "fine" if error_m <= FINE_M else "rough" if error_m <= ROUGH_M else "vague"
    return f"{'within' if apart_m <= WITHIN * error_m else 'beside'}-{grain}"


def _shifted(one: Sketch, other: Sketch, error_m: float) -> bool:
    """Whether they agree once one of them is taken for GCJ-02 that was declared as WGS 84."""
    return any(
        distance_m(*wgs84_from_gcj02(first.lon or 0.0, first.lat or 0.0), second.lon or 0.0, second.lat or 0.0)
        <= WITHIN * error_m
        for first, second in ((one, other), (other, one))
    )


def _apart_s(one: Sketch, other: Sketch) -> float:
    return abs((one.occurred_at - other.occurred_at).total_seconds())


def _error_s(one: Sketch, other: Sketch) -> float | None:
    """How far off their difference may be, s: nothing on one installation, whose clock was off for both."""
    if one.occurred_error_ms is None or other.occurred_error_ms is None:
        return None
    if one.install_id == other.install_id:
        return 0.0
    return (one.occurred_error_ms + other.occurred_error_ms) / 1000


def _time(one: Sketch, other: Sketch) -> str | None:
    error_s = _error_s(one, other)
    if error_s is None:
        return None
    apart_s = _apart_s(one, other)
    if apart_s <= SAME_MOMENT_S:
        return "same-moment"
    if apart_s <= error_s:
        return "within-fine" if error_s <= FINE_S else "within-rough" if error_s <= ROUGH_S else "within-vague"
    gap_s = apart_s - error_s
    if gap_s <= TALK_S:
        return "talk"
    return "round" if gap_s <= ROUND_S else "hours" if gap_s <= HOURS_S else "later"


# ---------------------------------------------------------------- who


def _officer(one: Sketch, other: Sketch) -> str:
    if one.officer_id == other.officer_id:
        return "same-installation" if one.install_id == other.install_id else "reinstalled"
    return "other-same-patrol" if one.patrol_id is not None and one.patrol_id == other.patrol_id else "other"


def _incident(one: Sketch, other: Sketch) -> str | None:
    if one.incident_id is None or other.incident_id is None:
        return None
    return "same" if one.incident_id == other.incident_id else "other"


# ---------------------------------------------------------------- what


def _equality(of: Callable[[Sketch], Any]) -> Callable[[Sketch, Sketch], str | None]:
    def level(one: Sketch, other: Sketch) -> str | None:
        mine, theirs = of(one), of(other)
        if not mine or not theirs:
            return None
        return "equal" if mine == theirs else "differs"

    return level


def _item(one: Sketch, other: Sketch) -> str | None:
    if not one.items or not other.items:
        return None
    if one.items == other.items:
        return "equal"
    return "disjoint" if one.items.isdisjoint(other.items) else "overlap"


def _photo(one: Sketch, other: Sketch) -> str | None:
    if not one.photos or not other.photos:
        return None
    return "differs" if one.photos.isdisjoint(other.photos) else "equal"


def _picture_bits(one: Sketch, other: Sketch) -> int | None:
    """In how many of 64 bits their two most similar pictures differ."""
    mine, theirs = filter(_detailed, one.dhashes), list(filter(_detailed, other.dhashes))
    return min(((a ^ b).bit_count() for a in mine for b in theirs), default=None)


def _detailed(dhash: int) -> bool:
    return PLAIN_BITS <= dhash.bit_count() <= 64 - PLAIN_BITS


def _picture(one: Sketch, other: Sketch) -> str | None:
    bits = _picture_bits(one, other)
    if bits is None:
        return None
    return "close" if bits <= SAME_PICTURE_BITS else "differs"


def _told(key: str, level: Callable[[str | None, str | None], str | None]) -> Callable[[Sketch, Sketch], str | None]:
    return lambda one, other: level(one.vendor.get(key), other.vendor.get(key))


#: What is compared, and at which levels two records may agree in it.
COMPARATORS: Comparators[Sketch] = {
    "time": _time,
    "distance": _distance,
    "officer": _officer,
    "incident": _incident,
    "item": _item,
    "event_class": _equality(lambda sketch: sketch.event_class),
    "photo": _photo,
    "picture": _picture,
    "vendor": _equality(lambda sketch: sketch.vendor_id),
    "vendor_phone": _told("phone", phone_level),
    "vendor_plate": _told("plate", plate_level),
    "vendor_stall": _told("stall", stall_level),
    "vendor_name": _told("name", name_level),
    "content": _equality(lambda sketch: sketch.content),
    "text": lambda one, other: text_level(one.text, other.text),
}
LEVELS: Mapping[str, tuple[str, ...]] = {
    "time": ("same-moment", "within-fine", "within-rough", "within-vague", "talk", "round", "hours", "later"),
    "distance": (
        *("same-fix", "within-fine", "within-rough", "within-vague", "beside-fine", "beside-rough", "beside-vague"),
        *("shifted", "beyond"),
    ),
    "officer": ("reinstalled", "same-installation", "other-same-patrol", "other"),
    "incident": ("same", "other"),
    "item": ("equal", "overlap", "disjoint"),
    "event_class": ("equal", "differs"),
    "photo": ("equal", "differs"),
    "picture": ("close", "differs"),
    "vendor": ("equal", "differs"),
    "vendor_phone": ("equal", "similar", "differs"),
    "vendor_plate": ("equal", "similar", "differs"),
    "vendor_stall": ("equal", "similar", "differs"),
    "vendor_name": ("equal", "same-sound", "similar", "differs"),
    "content": ("equal", "differs"),
    "text": ("equal", "similar", "related", "differs"),
}


# ---------------------------------------------------------------- the answer


def read_table(told: Mapping[str, Any]) -> Table:
    """The table of weights that `likeness.json` holds. Raises `ValueError` where it does not fit what is compared."""
    table = fellegi_sunter.read_table(told)
    for kind in ("patrol", "incident", "warning"):
        check_known(table.scales[kind], LEVELS)
    return table


def likeness(one: Sketch, other: Sketch, table: Table) -> Likeness:
    """How much two records of one kind resemble each other, and why."""
    return explained(one.kind, one, other, COMPARATORS, _values, table)


def explained(
    kind: str, one: Thing, other: Thing, comparators: Comparators[Thing], values: Values[Thing], table: Table
) -> Likeness:
    """How much two things of one kind resemble each other by the table, and why; `values` is what evidence shows."""
    one, other = sorted((one, other), key=attrgetter("id"))
    scale = table.scales[kind]
    levels = scale.levels(comparators, one, other)
    weights = scale.weights(levels)
    evidence = [Evidence(name, levels[name], values(name, one, other), weight) for name, weight in weights.items()]
    evidence.append(Evidence("kind", kind, (kind, kind), scale.prior))
    weight = scale.weight(levels)
    strongest_first = sorted(evidence, key=lambda piece: (-abs(piece.weight), piece.name))
    return Likeness(weight, score_of(weight), tuple(strongest_first), table.version)


def weight_or_none(one: Sketch, other: Sketch, table: Table, least_bits: float) -> float | None:
    """The weight of `likeness`, in bits; `None` as soon as it can't come to `least_bits` any more: for crowds of pairs.

    Records of two kinds are not the same.
    """
    if one.kind != other.kind:
        return None
    return table.scales[one.kind].weight_or_none(COMPARATORS, one, other, least_bits)


def _values(name: str, one: Sketch, other: Sketch) -> tuple[Any, Any] | Mapping[str, Any]:
    if name in _FIGURES:
        return _FIGURES[name](one, other)
    of = _SHOWN_OF[name]
    return of(one), of(other)


def _distance_figures(one: Sketch, other: Sketch) -> Mapping[str, Any]:
    return {"distance_m": round(_apart_m(one, other) or 0.0, 1), "error_m": round(_error_m(one, other), 1)}


def _time_figures(one: Sketch, other: Sketch) -> Mapping[str, Any]:
    return {"apart_s": round(_apart_s(one, other), 1), "error_s": _error_s(one, other)}


#: What evidence shows instead of the values of both sides.
_FIGURES: Mapping[str, Callable[[Sketch, Sketch], Mapping[str, Any]]] = {
    "time": _time_figures,
    "distance": _distance_figures,
    "photo": lambda one, other: {"equal": sorted(one.photos & other.photos)},
    "picture": lambda one, other: {"bits": _picture_bits(one, other)},
}
_SHOWN_OF: Mapping[str, Callable[[Sketch], Any]] = {
    "officer": lambda sketch: sketch.officer_id,
    "incident": lambda sketch: str(sketch.incident_id),
    "item": lambda sketch: sorted(sketch.items),
    "event_class": lambda sketch: sketch.event_class,
    "vendor": lambda sketch: str(sketch.vendor_id),
    "vendor_phone": lambda sketch: sketch.vendor.get("phone"),
    "vendor_plate": lambda sketch: sketch.vendor.get("plate"),
    "vendor_stall": lambda sketch: sketch.vendor.get("stall"),
    "vendor_name": lambda sketch: sketch.vendor.get("name"),
    "content": lambda sketch: sketch.content.hex(),
    "text": lambda sketch: (sketch.text or "")[:_SHOWN],
}


# ---------------------------------------------------------------- sent again


def is_resubmission(one: Sketch, other: Sketch, *, same_incident: bool = False) -> bool:
    """Whether one is the other, sent again by a reinstalled app: sure enough to be grouped without asking anybody.

    Same kind, same officer, an equal photo or equal content, times within their errors, and nothing that speaks against
    it. A warning is one of the same incident; `same_incident` says that their incidents are grouped.
    """
    return (
        one.kind == other.kind
        and one.officer_id == other.officer_id
        and one.install_id != other.install_id
        and (one.kind != "warning" or same_incident or _incident(one, other) == "same")
        and ("equal" in (_photo(one, other), _equal_content(one, other)))
        and _within_errors(one, other)
        and not any(COMPARATORS[name](one, other) in against for name, against in _AGAINST.items())
    )


#: What two records of one event by one officer never say; "similar" only where a finger slips.
_AGAINST: Mapping[str, frozenset[str]] = {
    "item": frozenset({"disjoint"}),
    "vendor_phone": frozenset({"differs"}),
    "vendor_plate": frozenset({"differs"}),
    "vendor_stall": frozenset({"similar", "differs"}),
    "vendor_name": frozenset({"differs"}),
}


def _equal_content(one: Sketch, other: Sketch) -> str | None:
    return COMPARATORS["content"](one, other)


def _within_errors(one: Sketch, other: Sketch) -> bool:
    error_s, apart_m = _error_s(one, other), _apart_m(one, other)
    if error_s is None or _apart_s(one, other) > max(error_s, SAME_MOMENT_S):
        return False
    return apart_m is None or apart_m <= _accuracy_m(one) + _accuracy_m(other)
