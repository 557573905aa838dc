"""Decides: what a scale should weigh, from pairs whose truth people know and from pairs that nobody judged.

Where the truth is known the chances of each level are counted. Where it is not they are found by expectation and
maximisation (Dempster, Laird and Rubin 1977): each pair counts as the same to the probability that the scale gives it,
which makes the next scale, until nothing changes. Both go together in one sum. What the scale says already counts for a
few pairs as well, so that a level that never came up keeps a chance, and three decisions don't overthrow a table.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace

from sync.fellegi_sunter import Chance, Levels, Piece, Scale, score_of

#: For how many pairs that are the same, and as many that are not, what a scale says already counts. ESTIMATE.
KNOWN_PAIRS = 20.0
#: Estimating ends when no chance changes by more than this in a round, or after so many rounds.
_SETTLED, _ROUNDS = 1e-4, 200

#: The levels of a pair, and whether it is the same: `None` where nobody knows.
Judged = tuple[Levels, bool | None]
#: Pairs that agree alike, and are judged alike, are counted together: the pieces with their levels, and the judgement.
_Level = tuple[str, str]
_Alike = Counter[tuple[tuple[_Level, ...], bool | None]]


def estimate(scale: Scale, candidates: Iterable[Judged], chosen: Iterable[Judged] = ()) -> Scale:
    """The scale as these pairs teach it.

    `candidates` are pairs as blocking finds them, all of them or picked by lot: they also teach which share of them is
    the same. `chosen` are pairs that were judged because they looked alike, such as decisions: they teach what levels
    weigh, and nothing of that share, which would come out far too large.
    """
    of_candidates, of_chosen = _alike(candidates), _alike(chosen)
    learned = scale
    for _ in range(_ROUNDS):
        before, learned = learned, _next(scale, learned, of_candidates, of_chosen)
        if _change(before, learned) < _SETTLED:
            break
    return learned


def _alike(pairs: Iterable[Judged]) -> _Alike:
    return Counter((tuple(levels.items()), same) for levels, same in pairs)


def _next(known: Scale, scale: Scale, candidates: _Alike, chosen: _Alike) -> Scale:
    """The scale after one more round: `known` is what it began with, `scale` what is believed by now."""
    found = list(_believed(scale, candidates))
    share = (sum(same for _, same, _ in found) + KNOWN_PAIRS * known.share) / (candidates.total() + KNOWN_PAIRS)
    of_same: defaultdict[_Level, float] = defaultdict(float)
    of_other: defaultdict[_Level, float] = defaultdict(float)
    for levels, same, other in (*found, *_believed(scale, chosen)):
        for level in levels:
            of_same[level] += same
            of_other[level] += other
    return replace(known, share=share, pieces=tuple(_piece(piece, of_same, of_other) for piece in known.pieces))


def _believed(scale: Scale, alike: _Alike) -> Iterator[tuple[tuple[_Level, ...], float, float]]:
    """For pairs that agree alike, how many are the same and how many are not: as is known, else as the scale says."""
    for (levels, known), count in alike.items():
        same = count * (score_of(scale.weight(dict(levels))) if known is None else known)
        yield levels, same, count - same


def _piece(piece: Piece, of_same: Mapping[_Level, float], of_other: Mapping[_Level, float]) -> Piece:
    ms = _chances(piece.name, {level: chance.m for level, chance in piece.levels.items()}, of_same)
    us = _chances(piece.name, {level: chance.u for level, chance in piece.levels.items()}, of_other)
    return replace(piece, levels=_falling({level: Chance(ms[level], us[level]) for level in ms}))


def _chances(name: str, known: Mapping[str, float], counts: Mapping[_Level, float]) -> dict[str, float]:
    pairs = KNOWN_PAIRS + sum(counts[name, level] for level in known)
    return {level: (counts[name, level] + KNOWN_PAIRS * chance) / pairs for level, chance in known.items()}


def _falling(levels: Mapping[str, Chance]) -> dict[str, Chance]:
    """The chances, with weights that never rise from a level to the next: where they did, neighbours share theirs.

    More agreement never speaks against it, whatever a handful of pairs seems to say (isotonic regression by pooling
    adjacent violators: Ayer et al. 1955).
    """
    pools: list[tuple[list[str], float, float]] = []
    for level, (m, u) in levels.items():
        pool = [level]
        while pools and m * pools[-1][2] > pools[-1][1] * u:
            above, above_m, above_u = pools.pop()
            pool, m, u = above + pool, above_m + m, above_u + u
        pools.append((pool, m, u))
    return {level: Chance(levels[level].u * m / u, levels[level].u) for pool, m, u in pools for level in pool}


def _change(before: Scale, after: Scale) -> float:
    """The largest change of any chance."""
    return max(
        abs(old - new)
        for piece, learned in zip(before.pieces, after.pieces, strict=True)
        for level in piece.levels
        for old, new in zip(piece.levels[level], learned.levels[level], strict=True)
    )


@dataclass(frozen=True, slots=True)
class Quality:
    """How good proposals are: pairs that were proposed and are the same, that are not, and that were missed."""

    right: int
    wrong: int
    missed: int

    @property
    def precision(self) -> float:
        """Of what is proposed, the share that is the same; 1 where nothing is proposed."""
        return self.right / (self.right + self.wrong) if self.right + self.wrong else 1.0

    @property
    def recall(self) -> float:
        """Of what is the same, the share that is proposed; 1 where nothing is the same."""
        return self.right / (self.right + self.missed) if self.right + self.missed else 1.0

    @property
    def f1(self) -> float:
        """The harmonic mean of precision and recall; 1 where nothing is the same and nothing is proposed."""
        counted = 2 * self.right + self.wrong + self.missed
        return 2 * self.right / counted if counted else 1.0


def quality(scale: Scale, judged: Iterable[tuple[Levels, bool]], threshold: float) -> Quality:
    """How good it is to propose the pairs that this scale scores at the threshold or above."""
    told = Counter((score_of(scale.weight(levels)) >= threshold, same) for levels, same in judged)
    return Quality(right=told[True, True], wrong=told[True, False], missed=told[False, True])
