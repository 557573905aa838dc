"""How a record stands, what may follow, and what waits for a person: told in tables."""

from __future__ import annotations

import datetime as dt

import pytest

from sync import standing

NOW = dt.datetime(2026, 11, 23, 8, 15, tzinfo=dt.UTC)


@pytest.mark.parametrize(
    ("version", "voided", "decided", "state"),
    [
        (1, False, None, "received"),
        (1, False, ("approve", 1), "approved"),
        (1, False, ("return", 1), "returned"),
        (2, False, ("approve", 1), "received"),
        (2, False, ("return", 1), "received"),
        (2, True, ("void", 1), "void"),
        (2, True, ("approve", 1), "void"),
        (1, True, None, "void"),
    ],
)
def test_a_decision_is_about_one_version(
    version: int, voided: bool, decided: tuple[str, int] | None, state: str
) -> None:
    assert standing.state_of(version, voided, decided) == state


@pytest.mark.parametrize(
    ("action", "states"),
    [
        ("approve", {"received", "returned"}),
        ("return", {"received", "approved"}),
        ("void", {"received", "approved", "returned"}),
        ("comment", {"received", "approved", "returned", "void"}),
    ],
)
def test_what_may_follow_how_a_record_stands(action: str, states: set[str]) -> None:
    assert {state for state in standing.STATES if standing.may(action, state)} == states


@pytest.mark.parametrize(
    ("outcome", "waited", "allowed"),
    [
        ("quarantined", dt.timedelta(0), ("repair", "dismiss")),
        ("conflict", dt.timedelta(0), ("resolve", "dismiss")),
        ("held", dt.timedelta(days=5) - dt.timedelta.resolution, ()),
        ("held", dt.timedelta(days=5), ("dismiss",)),
        ("applied", dt.timedelta(days=9), ()),
    ],
)
def test_what_may_be_decided_on_an_operation(outcome: str, waited: dt.timedelta, allowed: tuple[str, ...]) -> None:
    assert standing.decisions_on(outcome, NOW - waited, NOW) == allowed
