"""A day at the desk: what officers sent is returned, repaired, resolved and approved, over a real server."""

from __future__ import annotations

import uuid
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import orjson
import pytest
from sqlalchemy.orm import Session

from sync.evidence import verify
from sync.models import begin_read
from tests.journeys.ground import Answer, Ground, Handset
from tests.sync.days import amend, batch, incident, outcomes, patrol

REVIEW = "/api/v1/review"
pytestmark = pytest.mark.parametrize("ground", ["gunicorn on sqlite", "gunicorn on postgresql"], indirect=True)


def decide(desk: Handset, path: str, said: dict[str, Any], **headers: str) -> Answer:
    return desk.ask("POST", f"{REVIEW}/{path}", orjson.dumps(said), **headers)


def test_what_is_returned_is_amended_and_approved_and_what_waits_is_decided_on(ground: Ground) -> None:
    phone, desk = ground.handset(), ground.handset("supervisor")
    tablet = ground.handset()
    out = patrol()
    seen, bad = incident(out), incident(out, items=["NOPE"])
    phone.push(batch(phone.who, out, seen, bad))

    inbox = desk.ask("GET", f"{REVIEW}/inbox?kind=quarantined").json
    assert [item["id"] for item in inbox["items"]] == [bad["op"]]
    whole = desk.ask("GET", f"{REVIEW}/operations/{bad['op']}").json
    repair = {"action": "repair", "operation": whole["raw"] | {"body": bad["body"] | {"items": ["DEMO-SR-001"]}}}
    key = str(uuid.uuid4())
    with ThreadPoolExecutor(4) as pool:
        copies = range(4)
        answers = list(pool.map(lambda _: decide(desk, f"operations/{bad['op']}", repair, idempotency_key=key), copies))
    assert [answer.status for answer in answers] == [200] * 4
    assert sum(answer.headers.get("Idempotency-Replayed") == "true" for answer in answers) == 3
    (told,) = phone.ask("GET", f"/api/v1/sync/operations?install={phone.who.install_id}&n_from={bad['n']}").json[
        "operations"
    ]
    assert (told["outcome"], told["decision"]["operation"]["outcome"]) == ("quarantined", "applied")

    returned = {"action": "return", "version": 1, "comment": "请写明占道宽度"}
    assert decide(desk, f"records/{seen['record']}", returned).json["review"]["state"] == "returned"
    (mine,) = phone.ask("GET", "/api/v1/incidents?review=returned").json["items"]
    assert (mine["id"], mine["review"]["comment"]) == (seen["record"], "请写明占道宽度")
    assert outcomes(phone.push(batch(phone.who, amend(seen, 1, description="占道约两米"))).json) == ["applied"]
    stale = decide(desk, f"records/{seen['record']}", {"action": "approve", "version": 1})
    assert (stale.status, stale.code, stale.json["version"]) == (409, "decided-meanwhile", 2)
    approved = decide(desk, f"records/{seen['record']}", {"action": "approve", "version": 2})
    assert approved.json["review"]["state"] == "approved"

    clash = amend(seen, 1, description="占道约三米")
    assert outcomes(tablet.push(batch(tablet.who, clash)).json) == ["conflict"]
    chosen = {"action": "resolve", "version": 2, "fields": {"description": {"value": "占道约两米半"}}}
    assert decide(desk, f"operations/{clash['op']}", chosen).json["record_version"] == 3
    record = tablet.ask("GET", f"/api/v1/incidents/{seen['record']}").json
    assert (record["description"], record["review"]["state"]) == ("占道约两米半", "received")
    assert outcomes(tablet.push(batch(tablet.who, amend(seen, 3, description="占道约三米"))).json) == ["applied"]
    assert holds(ground)


def test_records_that_two_approve_at_the_same_moment_are_approved_once(ground: Ground) -> None:
    phone, desks = ground.handset(), [ground.handset("supervisor") for _ in range(2)]
    out = patrol()
    seen = [incident(out) for _ in range(100)]
    phone.push(batch(phone.who, out, *seen))
    asked = {"records": [{"id": what["record"], "version": 1} for what in seen]}
    with ThreadPoolExecutor(2) as pool:
        first, second = pool.map(lambda desk: decide(desk, "approvals", asked).json["results"], desks)
    for one, other in zip(first, second, strict=True):
        assert sorted([one["approved"], other["approved"]]) == [False, True]
        assert one["review"]["state"] == other["review"]["state"] == "approved"
    assert holds(ground)


def holds(ground: Ground) -> bool:
    """Whether everything is as it was sworn to."""
    with Session(ground.engine) as session:
        begin_read(session)
        return bool(list(verify(session)))
