"""Prints how good likeness is: on days whose truth is known, end to end, and on a public set; and how fast it weighs.

python -m tests.bench.likeness             5 towns for 8 days
python -m tests.bench.likeness --days 2    the same, quicker

The weights were learned from days of other seeds than those that are measured here.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Sequence
from itertools import islice
from pathlib import Path

from field_api.settings import Settings
from sync.fellegi_sunter import bits_of
from sync.likeness import KINDS, Sketch, weight_or_none
from sync.places import distance_m
from sync.resemblances import Yardstick, read_weights
from tests.bench import febrl
from tests.bench.doubles import days
from tests.bench.judged import Figures, judged
from tests.bench.received import received
from tests.bench.run import rate, ratio, tell

Pair = tuple[Sketch, Sketch]

REFERENCE = Path(__file__).parents[1] / "demo" / "reference"
#: Towns that nothing was learned from.
SEEDS = ("test", "test-b", "test-c", "test-d", "test-e")
#: Days of one town that go through the intake into a database.
RECEIVED_DAYS = 2
#: Candidates that are timed, and how often.
TIMED, REPEATS = 20_000, 5


def yardstick() -> Yardstick:
    """The engine's own table, with the thresholds of a server for which nothing is set."""
    return Yardstick(read_weights(), {kind: getattr(Settings, f"likeness_{kind}") for kind in (*KINDS, "vendor")})


def known_days(measure: Yardstick, count: int) -> list[Pair]:
    """Prints what is found, proposed and grouped of days whose truth is known. The candidates of the last day."""
    figures, pairs = Figures(measure.told_from), list[Pair]()
    for seed in SEEDS:
        for day in days(seed, count, REFERENCE):
            found = judged(day, measure.table)
            figures.add(day, found)
            pairs = [(pair.one, pair.other) for pair in found if pair.found]
    print("\n".join(figures.lines()))
    return pairs


def speed(measure: Yardstick, pairs: Sequence[Pair]) -> None:
    """Prints how many pairs are weighed in a second, beside measuring how far apart they are and no more."""
    least = {kind: bits_of(score) for kind, score in measure.told_from.items()}
    floors = [_per_second(pairs, _apart) for _ in range(REPEATS)]
    early = [
        _per_second(pairs, lambda one, other: weight_or_none(one, other, measure.table, least[one.kind]))
        for _ in range(REPEATS)
    ]
    whole = [
        _per_second(pairs, lambda one, other: weight_or_none(one, other, measure.table, float("-inf")))
        for _ in range(REPEATS)
    ]
    tell("floor: metres and seconds apart", rate(floors))
    tell("weighed until it can't be enough", rate(early), f"of the floor {ratio(early, floors):.2f}")
    tell("weighed to the end", rate(whole), f"of the floor {ratio(whole, floors):.2f}")


def _apart(one: Sketch, other: Sketch) -> object:
    metres = None if one.lon is None or other.lon is None else distance_m(one.lon, one.lat, other.lon, other.lat)
    return metres, (one.occurred_at - other.occurred_at).total_seconds()


def _per_second(pairs: Sequence[Pair], of: Callable[[Sketch, Sketch], object]) -> float:
    began = time.process_time()
    for one, other in pairs:
        of(one, other)
    return len(pairs) / (time.process_time() - began)


def main() -> None:
    """Measures and prints everything, the public set last."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.bench.likeness", description=(__doc__ or "").partition("\n")[0]
    )
    parser.add_argument("--days", type=int, default=8, help="of each town")
    given = parser.parse_args()
    measure = yardstick()
    print(f"\nDays whose truth is known: {len(SEEDS)} towns, {given.days} days each", flush=True)
    pairs = known_days(measure, given.days)
    print(f"\nThrough the intake into a database (SQLite): one town, {RECEIVED_DAYS} days", flush=True)
    print("\n".join(received(days(SEEDS[0], RECEIVED_DAYS, REFERENCE), REFERENCE, measure).lines()))
    print("\nPairs weighed in a second of processor time", flush=True)
    speed(measure, list(islice(pairs, TIMED)))
    print("\nA public set", flush=True)
    print("\n".join(febrl.run().lines()))


if __name__ == "__main__":
    main()
