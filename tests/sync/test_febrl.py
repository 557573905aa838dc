"""The scorer on records that nobody here made."""

from __future__ import annotations

from tests.bench import febrl


def test_doubles_of_febrl_3_are_found_without_a_label() -> None:
    result = febrl.run()
    assert (result.records, result.same) == (5_000, 6_538)
    assert result.found / result.same >= 0.995
    assert result.quality.f1 >= 0.985
    assert result.quality.right + result.quality.missed == result.same
