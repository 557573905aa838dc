"""Decides: how a record stands in review, which decision may follow, and what waits for a person.

Pure. A decision is about one version of a record. Whoever amends the record makes another version, which nobody has
decided on yet: nothing has to be reset, and no decision is ever about something that the decider did not see.
"""

from __future__ import annotations

import datetime as dt

#: How a record may stand: nobody has decided on its version, approved, returned to its officer, or void.
STATES = ("received", "approved", "returned", "void")
#: What a decision makes of a record, and how the record may stand before it. A comment changes nothing.
_DECISIONS = {
    "approve": ("approved", {"received", "returned"}),
    "return": ("returned", {"received", "approved"}),
    "void": ("void", {"received", "approved", "returned"}),
}
#: What may be done about a record.
ACTIONS = (*_DECISIONS, "comment")
#: What may be decided on an operation that waits for a person.
_ON_OPERATIONS = {"quarantined": ("repair", "dismiss"), "conflict": ("resolve", "dismiss"), "held": ("dismiss",)}
#: An operation that waits this long for another is shown to a supervisor (protocol.md §2).
HELD_TOO_LONG = dt.timedelta(days=5)
#: A photo that was announced this long ago should have followed by now: phones send them whenever there is a network.
PHOTO_LATE = dt.timedelta(days=3)


def state_of(version: int, voided: bool, decided: tuple[str, int] | None) -> str:
    """How a record of this version stands; `decided` is the last decision on it, with the version it was about."""
    if voided:
        return "void"
    if decided is None or decided[1] != version:
        return "received"
    return after(decided[0])


def after(action: str) -> str:
    """How a record stands once this was decided."""
    return _DECISIONS[action][0]


def may(action: str, state: str) -> bool:
    """Whether this may be done about a record that stands like that."""
    return action == "comment" or state in _DECISIONS[action][1]


def decisions_on(outcome: str, received_at: dt.datetime, now: dt.datetime) -> tuple[str, ...]:
    """What may be decided on an operation of this outcome: nothing while a held one may still join by itself."""
    if outcome == "held" and now - received_at < HELD_TOO_LONG:
        return ()
    return _ON_OPERATIONS.get(outcome, ())
