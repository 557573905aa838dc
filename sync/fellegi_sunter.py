"""Decides: how probable it is that two things are one, when several pieces of evidence agree more or less.

Fellegi and Sunter (1969). For each piece a comparator names the level at which two things agree. A table says how often
that level comes up among pairs that are the same (m) and among pairs that are not (u); it weighs log2(m/u) bits for it.
A scale adds up what all pieces weigh, beginning with its prior: how many of the pairs that are weighed at all are the
same. What a side does not say has no level and weighs nothing.

Pieces that tell the same thing twice (a vendor's name and phone) share a facet: of these the strongest piece for it and
the strongest against it count, and the others weigh nothing, because the sum holds for independent evidence only.

Which pieces there are and what they compare is not known here: `likeness` brings records, `vendors` vendors. Weights
are learned in `estimation`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from functools import cached_property
from itertools import groupby, pairwise
from operator import attrgetter
from typing import Any, NamedTuple, TypeVar

#: Digits of a bit that weights are given with: what is shown adds up to what is decided.
_DIGITS = 2
#: Far below the last digit: what adding floats may be off.
_FLOAT_NOISE = 1e-9
#: How far the chances of all levels of a piece may be from 1 altogether: tables are rounded.
_ROUNDED = 0.011
#: How much larger m/u may seem than that of the level before it, for the same reason.
_RISEN = 1.01
#: Significant digits of chances in a file.
_CHANCE_DIGITS = 4

Thing = TypeVar("Thing")
#: Names the level at which two things agree in one piece of evidence; `None` where either says nothing. Symmetric.
Comparator = Callable[[Thing, Thing], str | None]
Comparators = Mapping[str, Comparator[Thing]]
#: At which level two things agree in each piece that both say something of.
Levels = Mapping[str, str]


def score_of(bits: float) -> float:
    """The probability that a weight in bits stands for."""
    return 0.5 + 0.5 * math.tanh(bits * math.log(2) / 2)  # 1 / (1 + 2 ** -bits), for any number of bits


def bits_of(score: float) -> float:
    """The weight in bits that stands for a probability between 0 and 1, both excluded."""
    return math.log2(score / (1 - score))


class Chance(NamedTuple):
    """How often a level comes up among pairs that are the same (m), and among those that are not (u)."""

    m: float
    u: float


@dataclass(frozen=True, slots=True)
class Piece:
    """A piece of evidence: its levels with their chances, the facet it tells of, and why its chances are these.

    Levels stand from the most agreement to the least; none weighs more than one before it.
    """

    name: str
    facet: str
    levels: Mapping[str, Chance]
    reason: str


@dataclass(frozen=True)
class Scale:
    """What pairs of one kind are weighed with; `share` of the pairs that are weighed at all are the same.

    No piece alone carries a pair over the score `alone`: it weighs at most what the prior lacks for that. Pieces stand
    in the order in which they are compared: cheap ones first, those of one facet side by side.
    """

    share: float
    alone: float
    pieces: tuple[Piece, ...]
    reason: str

    @cached_property
    def prior(self) -> float:
        """What a pair weighs before anything is compared, in bits."""
        return round(bits_of(self.share), _DIGITS)

    @cached_property
    def bits(self) -> Mapping[str, Mapping[str, float]]:
        """What each level of each piece weighs, in bits."""
        return {piece.name: {level: self._bits(piece.levels[level]) for level in piece.levels} for piece in self.pieces}

    def _bits(self, chance: Chance) -> float:
        most = math.floor(max(bits_of(self.alone) - self.prior, 0.0) * 100) / 100
        return min(round(math.log2(chance.m / chance.u), _DIGITS) + 0.0, most)  # which has no -0.0

    @cached_property
    def _facets(self) -> tuple[tuple[tuple[tuple[str, Mapping[str, float]], ...], float], ...]:
        """For each facet its pieces with their bits, and the most that all facets behind it can add."""
        facets = [[piece.name for piece in pieces] for _, pieces in groupby(self.pieces, attrgetter("facet"))]
        most = [max(0.0, *(bits for name in names for bits in self.bits[name].values())) for names in facets]
        return tuple(
            (tuple((name, self.bits[name]) for name in names), sum(most[number + 1 :]))
            for number, names in enumerate(facets)
        )

    def weight_or_none(
        self, comparators: Comparators[Thing], one: Thing, other: Thing, least_bits: float
    ) -> float | None:
        """What the pair weighs, in bits; `None` as soon as it can't come to `least_bits` any more."""
        return self._weight(lambda name: comparators[name](one, other), least_bits - _FLOAT_NOISE)

    def weight(self, levels: Levels) -> float:
        """What a pair with these levels weighs, in bits."""
        return self._weight(levels.get, -math.inf) or 0.0

    def _weight(self, level_of: Callable[[str], str | None], least_bits: float) -> float | None:
        total = self.prior
        for pieces, rest in self._facets:
            most = least = 0.0
            for name, bits in pieces:
                level = level_of(name)
                if level is not None:
                    weight = bits[level]
                    if weight > most:
                        most = weight
                    elif weight < least:
                        least = weight
            total += most + least
            if total + rest < least_bits:
                return None
        return round(total, _DIGITS)

    def levels(self, comparators: Comparators[Thing], one: Thing, other: Thing) -> Levels:
        """At which level the pair agrees in each piece; without those that either side says nothing of."""
        found = ((piece.name, comparators[piece.name](one, other)) for piece in self.pieces)
        return {name: level for name, level in found if level is not None}

    def weights(self, levels: Levels) -> dict[str, float]:
        """What each of these pieces counts for, in bits; with the prior they add up to what the pair weighs."""
        facets = ({name: bits[levels[name]] for name, bits in pieces if name in levels} for pieces, _ in self._facets)
        return {name: weight for told in facets if told for name, weight in _counted(told).items()}


def _counted(told: Mapping[str, float]) -> dict[str, float]:
    """Of one facet the strongest piece for it and the strongest against it; the others weigh nothing."""
    counted = dict.fromkeys(told, 0.0)
    strongest, weakest = max(told, key=told.__getitem__), min(told, key=told.__getitem__)
    counted[strongest] = max(told[strongest], 0.0)
    counted[weakest] += min(told[weakest], 0.0)
    return counted


@dataclass(frozen=True, slots=True)
class Table:
    """The scales of one version, by names that tell what they are for."""

    version: str
    reason: str
    scales: Mapping[str, Scale]


def read_table(told: Mapping[str, Any]) -> Table:
    """The table that a file such as `likeness.json` holds. Raises `ValueError` where it contradicts itself."""
    try:
        scales = {name: _scale(scale) for name, scale in told["scales"].items()}
        return Table(str(told["version"]), str(told["reason"]), scales)
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"not a table of weights: {error!r}") from error


def _scale(told: Mapping[str, Any]) -> Scale:
    if not (0 < told["share"] < 1 and 0 < told["alone"] < 1):
        raise ValueError(f"no probability: {told['share']} or {told['alone']}")
    pieces = tuple(_piece(piece) for piece in told["pieces"])
    facets = [facet for facet, _ in groupby(pieces, attrgetter("facet"))]
    if len({piece.name for piece in pieces}) < len(pieces) or len(set(facets)) < len(facets):
        raise ValueError(f"a piece stands twice, or away from the others of its facet: {facets}")
    return Scale(told["share"], told["alone"], pieces, str(told["reason"]))


def _piece(told: Mapping[str, Any]) -> Piece:
    levels = {level: Chance(m, u) for level, (m, u) in told["levels"].items()}
    for chances in ([chance.m for chance in levels.values()], [chance.u for chance in levels.values()]):
        if not all(chance > 0 for chance in chances) or abs(sum(chances) - 1) > _ROUNDED:
            raise ValueError(f"the chances of {told['name']} are not above 0, or not 1 altogether: {chances}")
    if any(less.m * more.u > more.m * less.u * _RISEN for more, less in pairwise(levels.values())):
        raise ValueError(f"of {told['name']} a level weighs more than one that agrees more: {levels}")
    return Piece(str(told["name"]), str(told.get("facet", told["name"])), levels, str(told["reason"]))


def written(table: Table) -> dict[str, Any]:
    """The table as `read_table` reads it."""
    scales = {name: _written(scale) for name, scale in table.scales.items()}
    return {"version": table.version, "reason": table.reason, "scales": scales}


def _written(scale: Scale) -> dict[str, Any]:
    pieces = [
        {"name": piece.name, "facet": piece.facet, "reason": piece.reason}
        | {"levels": {level: [_brief(chance.m), _brief(chance.u)] for level, chance in piece.levels.items()}}
        for piece in scale.pieces
    ]
    return {"share": _brief(scale.share), "alone": scale.alone, "reason": scale.reason, "pieces": pieces}


def _brief(chance: float) -> float:
    return float(f"{chance:.{_CHANCE_DIGITS}g}")


def check_known(scale: Scale, known: Mapping[str, Collection[str]]) -> None:
    """Raises `ValueError` unless every piece of the scale is known, with exactly these levels."""
    for piece in scale.pieces:
        if set(known.get(piece.name, ())) != set(piece.levels):
            raise ValueError(f"{piece.name} has the levels {sorted(piece.levels)}, not {known.get(piece.name)}")
