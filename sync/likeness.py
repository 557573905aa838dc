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
from bisect import bisect_left
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
#: Up to this combined error positions tell stalls apart, up to the other streets, beyond it little; m. ESTIMATE.
FINE_M, ROUGH_M = 40.0, 150.0
#: Positions of one place in combined errors: 15, 68, 92 of 100 and nearly all are this near. An accuracy is the radius
#: that holds 68 of 100 readings (Android's Location.getAccuracy), so 1 - 0.32 ** (n * n) of them lie within n of it.
CLOSE, NEAR, WITHIN, FARTHEST = 0.5, 1.0, 1.5, 3.0
#: Positions nearer than this come from one reading, m.
SAME_FIX_M = 0.1
#: How far GCJ-02 taken for WGS 84 may be off in China, m; only then it is worth a look. traps.md: 489–528 in Xiaoshan.
SHIFT_FROM_M, SHIFT_UNTIL_M = 300.0, 800.0
#: Times nearer than this are of one moment, s: phones' clocks are read to the second.
SAME_MOMENT_S = 1.0
#: Times with a larger combined error tell little where they agree within it, s. ESTIMATE.
UNSURE_S = 120.0
#: How far apart two visits are at most, s, beyond what both times may be off. ESTIMATE: officers write within a talk
#: with the vendor, who walks around a block comes by after 20 minutes, who comes back for the next meal after hours.
APART_S: Mapping[str, float] = {
    **{"2-minutes": 120.0, "5-minutes": 300.0, "10-minutes": 600.0, "20-minutes": 1_200.0, "45-minutes": 2_700.0},
    **{"3-hours": 10_800.0, "later": math.inf},
}
_APART, _APART_UNTIL_S = tuple(APART_S), tuple(APART_S.values())
#: Pictures whose dHash differs in so many of 64 bits are one, re-encoded or watermarked (traps.md).
SAME_PICTURE_BITS = 10
#: A dHash with fewer bits of one kind is of a picture without detail (a wall, the night) and tells nothing. ESTIMATE.
PLAIN_BITS = 8
#: What may resemble each other, each among its own kind; parents before children: what is grouped of them says
#: something of their children.
KINDS = ("patrol", "incident", "warning")
#: Written by one officer, by two of one crew, by two of different crews.
SCALES = tuple(f"{kind}/{who}" for kind in KINDS for who in ("same-officer", "partner", "other"))
#: Names and phones of parties that are compared: more are no evidence, only work. ESTIMATE.
_MOST_PARTIES = 6
#: Characters of a text that evidence shows.
_SHOWN = 120


@dataclass(frozen=True, slots=True)
class Sketch:
    """All of a record that likeness looks at. `patrol_id` is the patrol it belongs to (a patrol's own).

    `crew` are the officers of that patrol, as its record names them; `parties` what was told of the parties: names,
    phones, identity numbers. `vendor` may have a name, phone, stall and plate.
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
    crew: frozenset[str] = frozenset()
    items: frozenset[str] = frozenset()
    event_class: str | None = None
    vendor_id: uuid.UUID | None = None
    vendor: Mapping[str, str | None] = field(default_factory=dict)
    parties: frozenset[str] = frozenset()
    photos: frozenset[str] = frozenset()
    dhashes: tuple[int, ...] = ()
    text: str | None = None
    content: bytes = b""


#: What evidence shows: what both say, that of the smaller id first, or figures by their names.
Values = tuple[Any, Any] | Mapping[str, Any]
#: What a piece of evidence of this name shows of two things.
Shown = Callable[[str, Thing, Thing], Values]


@dataclass(frozen=True, slots=True)
class Evidence:
    """One piece of evidence: at which level two records agree in it, what they say, how many bits that counts for."""

    name: str
    level: str
    values: Values
    weight: float


@dataclass(frozen=True, slots=True)
class Likeness:
    """How much two records resemble each other: bits, as a probability, and why, the strongest evidence first."""

    weight: float
    score: float
    evidence: tuple[Evidence, ...]
    version: str


#: Names the level at which two records agree; `None` where either says nothing.
_Level = Callable[[Sketch, Sketch], str | None]


@dataclass(frozen=True, slots=True)
class Compared:
    """What is compared: how a level is found, which levels there are, and what evidence shows for it."""

    level: _Level
    levels: tuple[str, ...]
    values: Callable[[Sketch, Sketch], Values]


# ---------------------------------------------------------------- where and when


def _apart_m(one: Sketch, other: Sketch) -> float | None:
    if one.lon is None or one.lat is None or other.lon is None or other.lat is None:
        return None
    return distance_m(one.lon, one.lat, other.lon, other.lat)


def _error_m(one: Sketch, other: Sketch) -> float:
    """The combined error of both positions, m; people who write down one stall stand beside each other besides."""
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
    errors = apart_m / error_m
    if errors > FARTHEST:
        return "shifted" if SHIFT_FROM_M < apart_m < SHIFT_UNTIL_M and _shifted(one, other, error_m) else "beyond"
    if error_m > ROUGH_M:
        return "unsure"
    if error_m > FINE_M:
        return "near-rough" if errors <= NEAR else "apart-rough"
    return "close" if errors <= CLOSE else "near" if errors <= NEAR else "edge" if errors <= WITHIN else "apart"


def _shifted(one: Sketch, other: Sketch, error_m: float) -> bool:
    """Whether they agree once one of them, declared as WGS 84, is taken for GCJ-02."""
    nearest_m = min(
        distance_m(*wgs84_from_gcj02(first.lon or 0.0, first.lat or 0.0), second.lon or 0.0, second.lat or 0.0)
        for first, second in ((one, other), (other, one))
    )
    return nearest_m <= WITHIN * error_m


def _distance_figures(one: Sketch, other: Sketch) -> Values:
    return {"distance_m": round(_apart_m(one, other) or 0.0, 1), "error_m": round(_error_m(one, other), 1)}


def _apart_s(one: Sketch, other: Sketch) -> float:
    return abs((one.occurred_at - other.occurred_at).total_seconds())


def _error_s(one: Sketch, other: Sketch) -> float | None:
    """How far off the difference of their times may be, s: nothing on one installation, whose clock was off alike."""
    if one.occurred_error_ms is None or other.occurred_error_ms is None:
        return None
    if one.install_id == other.install_id:
        return 0.0
    return (one.occurred_error_ms + other.occurred_error_ms) / 1000


def _time(one: Sketch, other: Sketch) -> str | None:
    """Agreement of times that may be far off says little, so the level also tells how far."""
    error_s = _error_s(one, other)
    if error_s is None:
        return None
    apart_s = _apart_s(one, other)
    if apart_s <= SAME_MOMENT_S:
        return "same-moment"
    if apart_s <= error_s and error_s > UNSURE_S:
        return "unsure"
    return _APART[bisect_left(_APART_UNTIL_S, apart_s - error_s)]


def _time_figures(one: Sketch, other: Sketch) -> Values:
    return {"apart_s": round(_apart_s(one, other), 1), "error_s": _error_s(one, other)}


# ---------------------------------------------------------------- who


def scale_name(one: Sketch, other: Sketch) -> str:
    """The scale for two records of one kind: what one officer sends twice is unlike what two officers write."""
    if one.officer_id == other.officer_id:
        return f"{one.kind}/same-officer"
    partners = not one.crew.isdisjoint(other.crew) or (one.patrol_id is not None and one.patrol_id == other.patrol_id)
    return f"{one.kind}/partner" if partners else f"{one.kind}/other"


def _installation(one: Sketch, other: Sketch) -> str:
    return "same" if one.install_id == other.install_id else "another"


# ---------------------------------------------------------------- what


def _item(one: Sketch, other: Sketch) -> str | None:
    if not one.items or not other.items:
        return None
    if one.items == other.items:
        return "equal"
    return "differs" if one.items.isdisjoint(other.items) else "overlap"


def _common(of: Callable[[Sketch], frozenset[str]]) -> Compared:
    """Equal if they have something in common; nothing where either has nothing."""

    def level(one: Sketch, other: Sketch) -> str | None:
        mine, theirs = of(one), of(other)
        if not mine or not theirs:
            return None
        return "differs" if mine.isdisjoint(theirs) else "equal"

    return Compared(level, ("equal", "differs"), lambda one, other: {"equal": sorted(of(one) & of(other))})


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


def _equality(of: Callable[[Sketch], Any], show: Callable[[Any], str] = str) -> Compared:
    """Equal or not; nothing where either says nothing."""

    def level(one: Sketch, other: Sketch) -> str | None:
        mine, theirs = of(one), of(other)
        if not mine or not theirs:
            return None
        return "equal" if mine == theirs else "differs"

    return Compared(level, ("equal", "differs"), lambda one, other: (show(of(one)), show(of(other))))


def _told(key: str, level: Callable[[str | None, str | None], str | None], *levels: str) -> Compared:
    """What was told of the vendor, by one of the levels of `names`."""
    return Compared(
        lambda one, other: level(one.vendor.get(key), other.vendor.get(key)),
        levels,
        lambda one, other: (one.vendor.get(key), other.vendor.get(key)),
    )


_NAMES = ("equal", "same-sound", "similar", "differs")


def _party(one: Sketch, other: Sketch) -> str | None:
    """How far the two parties agree that agree most; shops are named in part, people by ear."""
    mine, theirs = sorted(one.parties)[:_MOST_PARTIES], sorted(other.parties)[:_MOST_PARTIES]
    found = [level for each in mine for another in theirs if (level := name_level(each, another))]
    return min(found, key=_NAMES.index, default=None)


def _vendor_told(one: Sketch, other: Sketch) -> str:
    """Stalls stand side by side, so that near is seldom the same; where nobody sells, things lie apart."""
    return ("neither", "one", "both")[(one.vendor_id is not None) + (other.vendor_id is not None)]


def _shown(text: str | None) -> str:
    return (text or "")[:_SHOWN]


#: All that is compared.
EVIDENCE: Mapping[str, Compared] = {
    "time": Compared(
        _time,
        ("same-moment", "unsure", *_APART),
        _time_figures,
    ),
    "distance": Compared(
        _distance,
        (
            *("same-fix", "close", "near", "near-rough", "edge", "apart-rough", "unsure", "shifted", "apart"),
            "beyond",
        ),
        _distance_figures,
    ),
    "installation": Compared(
        _installation, ("another", "same"), lambda one, other: (str(one.install_id), str(other.install_id))
    ),
    "incident": _equality(lambda sketch: sketch.incident_id),
    "item": Compared(
        _item, ("equal", "overlap", "differs"), lambda one, other: (sorted(one.items), sorted(other.items))
    ),
    "event_class": _equality(lambda sketch: sketch.event_class),
    "photo": _common(lambda sketch: sketch.photos),
    "picture": Compared(_picture, ("close", "differs"), lambda one, other: {"bits": _picture_bits(one, other)}),
    "vendor_told": Compared(
        _vendor_told,
        ("neither", "both", "one"),
        lambda one, other: (one.vendor_id is not None, other.vendor_id is not None),
    ),
    "vendor": _equality(lambda sketch: sketch.vendor_id),
    "vendor_phone": _told("phone", phone_level, "equal", "similar", "differs"),
    "vendor_plate": _told("plate", plate_level, "equal", "similar", "differs"),
    "vendor_stall": _told("stall", stall_level, "equal", "similar", "differs"),
    "vendor_name": _told("name", name_level, *_NAMES),
    "party": Compared(_party, _NAMES, lambda one, other: (sorted(one.parties), sorted(other.parties))),
    "content": _equality(lambda sketch: sketch.content, bytes.hex),
    "text": Compared(
        lambda one, other: text_level(one.text, other.text),
        ("equal", "similar", "related", "differs"),
        lambda one, other: (_shown(one.text), _shown(other.text)),
    ),
}
COMPARATORS: Comparators[Sketch] = {name: compared.level for name, compared in EVIDENCE.items()}

# ---------------------------------------------------------------- the answer


def read_table(told: Mapping[str, Any]) -> Table:
    """The table of weights that `likeness.json` holds. Raises `ValueError` where it does not fit what is compared."""
    table = fellegi_sunter.read_table(told)
    if missing := set(SCALES) - table.scales.keys():
        raise ValueError(f"the table has no scales {sorted(missing)}")
    for scale in SCALES:
        check_known(table.scales[scale], {name: compared.levels for name, compared in EVIDENCE.items()})
    return table


def likeness(one: Sketch, other: Sketch, table: Table) -> Likeness:
    """How much two records of one kind resemble each other, and why."""
    return explained(scale_name(one, other), one, other, COMPARATORS, _values, table)


def explained(
    kind: str, one: Thing, other: Thing, comparators: Comparators[Thing], values: Shown[Thing], table: Table
) -> Likeness:
    """How much two things resemble each other by the scale for this kind, and why; `values` is what evidence shows."""
    one, other = sorted((one, other), key=attrgetter("id"))
    scale = table.scales[kind]
    levels = scale.levels(comparators, one, other)
    evidence = [Evidence("kind", kind, (kind, kind), scale.prior)]
    for name, counted in scale.weights(levels).items():
        evidence.append(Evidence(name, levels[name], values(name, one, other), counted))
    evidence.sort(key=lambda piece: (-abs(piece.weight), piece.name))
    weight = scale.weight(levels)
    return Likeness(weight, score_of(weight), tuple(evidence), table.version)


def _values(name: str, one: Sketch, other: Sketch) -> Values:
    return EVIDENCE[name].values(one, other)


def weight_or_none(one: Sketch, other: Sketch, table: Table, least_bits: float) -> float | None:
    """The weight of `likeness`, in bits; `None` as soon as it can't come to `least_bits` any more: for crowds of pairs.

    Records of two kinds are not the same.
    """
    if one.kind != other.kind:
        return None
    return table.scales[scale_name(one, other)].weight_or_none(COMPARATORS, one, other, least_bits)


# ---------------------------------------------------------------- sent again


def is_resubmission(one: Sketch, other: Sketch, *, same_incident: bool = False) -> bool:
    """Whether one is the other, sent again by a reinstalled app: sure enough to be grouped without asking anybody.

    Same kind and officer, another installation, an equal photo or equal content, times and places within their errors,
    and nothing that speaks against it. A warning is one of the same incident; `same_incident` says that their incidents
    are grouped.
    """
    return (
        one.kind == other.kind
        and one.officer_id == other.officer_id
        and one.install_id != other.install_id
        and (one.kind != "warning" or same_incident or _level("incident", one, other) == "equal")
        and _at_once(one, other)
        and "equal" in (_level("photo", one, other), _level("content", one, other))
        and not _contradict(one, other)
    )


def _level(name: str, one: Sketch, other: Sketch) -> str | None:
    return EVIDENCE[name].level(one, other)


def _at_once(one: Sketch, other: Sketch) -> bool:
    """Whether time and place agree within their errors, and one of the two to the very second or reading.

    Two stalls side by side also agree within errors, may stand on one photo, and be told in one set phrase.
    """
    error_s, apart_s, apart_m = _error_s(one, other), _apart_s(one, other), _apart_m(one, other)
    if error_s is None or apart_s > max(error_s, SAME_MOMENT_S):
        return False
    if apart_m is None:
        return apart_s <= SAME_MOMENT_S
    if apart_m > _accuracy_m(one) + _accuracy_m(other):
        return False
    return apart_s <= SAME_MOMENT_S or apart_m < SAME_FIX_M


#: What a record that is sent again says as it did before, if it says anything; it may have been worded anew.
_SAID_AGAIN = ("item", "event_class", "vendor_phone", "vendor_plate", "vendor_stall", "vendor_name", "party")


def _contradict(one: Sketch, other: Sketch) -> bool:
    """Whether anything speaks against one being the other, sent again."""
    other_photos = _level("photo", one, other) == "differs" and _level("picture", one, other) != "close"
    return other_photos or any(_level(name, one, other) not in (None, "equal") for name in _SAID_AGAIN)
