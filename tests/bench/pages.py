"""Pages of the list of incidents: how a reader asks for them, and the same by hand in SQL through the driver alone."""

from __future__ import annotations

import datetime as dt
import uuid
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple
from urllib.parse import urlencode

from tests.bench.day import PLACES, SEEN

#: Records on a page, as the server gives them when nothing is said.
LIMIT = 50


class Case(NamedTuple):
    """A page: what is asked for, and the condition that means the same in SQL of either database."""

    name: str
    query: dict[str, str]
    condition: str

    @property
    def path(self) -> str:
        return "/api/v1/incidents?" + urlencode(self.query | {"limit": str(LIMIT)})


def cases(township: str, officer: str, item: str, event_class: str, now: dt.datetime) -> list[Case]:
    """What supervisors and GIS staff ask for: the newest, by every kind of index, and by what no index helps with."""
    week = {"from_at": _instant(now, 20), "until_at": _instant(now, 13)}
    in_week = " AND ".join(f"occurred_at {sign} '{_plain(now, days)}'" for sign, days in ((">=", 20), ("<", 13)))
    has_item = f"id IN (SELECT incident_id FROM incident_items WHERE item_code = '{item}')"
    missing = "id IN (SELECT record_id FROM announced_photos WHERE received_at IS NULL)"
    box = (120.25, 30.15, 120.27, 30.17)
    in_box = "lon BETWEEN {0} AND {2} AND lat BETWEEN {1} AND {3}".format(*box)
    return [
        Case("the newest", {}, "TRUE"),
        Case("of a township", {"township": township}, f"township_code = '{township}'"),
        Case("of an officer", {"officer": officer}, f"officer_id = ({_ACCOUNT.format(officer)})"),
        Case("of a week", week, in_week),
        Case("with an item", {"item": item}, has_item),
        Case("of a class", {"event_class": event_class}, f"event_class = '{event_class}'"),
        Case("with a measure", {"measure": "publicise"}, "measures LIKE '% publicise %'"),
        Case("with a text", {"q": SEEN[2]}, f"description LIKE '%{SEEN[2]}%'"),
        Case("with a text that none has", {"q": "没有的话"}, "description LIKE '%没有的话%'"),
        Case("in a box", {"bbox": ",".join(map(str, box))}, in_box),
        Case("with photos missing", {"photos": "missing"}, missing),
        Case(
            "township, class, text",
            {"township": township, "event_class": event_class, "q": PLACES[0]},
            f"township_code = '{township}' AND event_class = '{event_class}' AND description LIKE '%{PLACES[0]}%'",
        ),
    ]


_ACCOUNT = "SELECT id FROM accounts WHERE username = '{}'"


def _instant(now: dt.datetime, days: int) -> str:
    return f"{_plain(now, days)}Z".replace(" ", "T")


def _plain(now: dt.datetime, days: int) -> str:
    """An instant some days ago, in UTC, as both databases compare it."""
    return (now - dt.timedelta(days=days)).strftime("%Y-%m-%d %H:%M:%S")


def by_hand(connection: Any, case: Case) -> Callable[[], Sequence[Any]]:
    """Fetches the page: the rows with the officers' names and the arrived photos, then their items."""
    newest = (
        "SELECT i.id, i.*, a.username, a.full_name, "
        "(SELECT count(*) FROM announced_photos p WHERE p.record_id = i.id AND p.received_at IS NOT NULL) "
        "FROM incidents i LEFT JOIN accounts a ON a.id = i.officer_id "
        f"WHERE i.id IN (SELECT id FROM incidents WHERE voided_at IS NULL AND {case.condition} "
        f"ORDER BY occurred_at DESC, id DESC LIMIT {LIMIT + 1}) ORDER BY i.occurred_at DESC, i.id DESC"
    )
    items = (
        "SELECT l.*, e.name, e.domain FROM incident_items l JOIN enforcement_items e ON e.id = l.item_id "
        "WHERE l.incident_id IN ({}) ORDER BY l.incident_id, l.ordinal"
    )

    def fetch() -> Sequence[Any]:
        rows = connection.execute(newest).fetchall()
        ids = ", ".join(f"'{row[0].hex if isinstance(row[0], uuid.UUID) else row[0]}'" for row in rows)
        connection.execute(items.format(ids or "NULL")).fetchall()
        return list(rows)

    return fetch
