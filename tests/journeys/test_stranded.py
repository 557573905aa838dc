"""A full phone whose officer can't sign in any more: nothing on it is lost, over a real server."""

from __future__ import annotations

import datetime as dt
import hashlib
from dataclasses import replace
from typing import Any

import orjson
import pytest
from sqlalchemy import select
from sqlalchemy.orm import Session

from sync.evidence import verify
from sync.models import Account, Operation, begin_read, begin_write
from tests.journeys.ground import UPLOADS, Ground, Handset
from tests.sync.days import batch, incident, outcomes, patrol

PERMIT = "/api/v1/auth/permit"
pytestmark = pytest.mark.parametrize("ground", ["gunicorn on sqlite", "gunicorn on postgresql"], indirect=True)


def numbered(*operations: dict[str, Any]) -> list[dict[str, Any]]:
    return [operation | {"n": n} for n, operation in enumerate(operations, 1)]


def permit(desk: Handset, phone: Handset, **said: str) -> str:
    """The code of a permit for this phone."""
    body = orjson.dumps({"reason": "账号停用，手机内有未上传记录"} | said)
    answer = desk.ask("POST", f"/api/v1/installations/{phone.who.install_id}/permits", body)
    assert answer.status == 200, answer
    return str(answer.json["code"])


def permitted(phone: Handset, code: str) -> Handset:
    """The phone, with the token that the code is changed for."""
    body = orjson.dumps({"code": code, "install": str(phone.who.install_id)})
    return replace(phone, token=phone.ask("POST", PERMIT, body, authorization="").json["access_token"])


def set_disabled(ground: Ground, username: str, disabled_at: dt.datetime | None) -> None:
    with Session(ground.engine) as session:
        begin_write(session)
        session.scalars(select(Account).where(Account.username == username)).one().disabled_at = disabled_at
        session.commit()


def test_a_disabled_officers_full_phone_is_emptied_with_a_permit_and_nothing_else_opens(ground: Ground) -> None:
    phone, desk = ground.handset("stranger"), ground.handset("supervisor")
    photo = b"the bytes of a photo that nobody else has"
    name = hashlib.sha256(photo).hexdigest()
    out = patrol(["stranger", "partner"])
    announced = [{"sha256": name, "bytes": len(photo), "type": "image/jpeg"}]
    full = numbered(out, incident(out, photos=announced), incident(out))
    phone.push(batch(phone.who, next_n=4, unsent=[[1, 3]]))
    set_disabled(ground, "stranger", dt.datetime.now(dt.UTC))
    try:
        assert phone.push(batch(phone.who, *full)).code == "account-disabled"
        (stuck,) = desk.ask("GET", "/api/v1/installations?unsent=true").json["items"]
        assert (stuck["id"], stuck["account_disabled"], stuck["unsent"]["count"]) == (
            str(phone.who.install_id),
            True,
            3,
        )

        code = permit(desk, phone)
        let_in = permitted(phone, code)
        receipt = let_in.push(batch(phone.who, *full))
        assert outcomes(receipt.json) == ["applied"] * 3
        assert receipt.json["photos_needed"] == [name]
        sent = let_in.ask("PUT", f"{UPLOADS}/{name}", photo, content_type="image/jpeg")
        assert sent.status == 200
        assert let_in.ask("GET", f"/api/v1/sync/batches/{receipt.json['batch']}").json["photos_needed"] == []

        again = orjson.dumps({"code": code, "install": str(phone.who.install_id)})
        assert phone.ask("POST", PERMIT, again, authorization="").code == "permit-invalid"
        for path in ("/api/v1/incidents", f"/api/v1/photos/{name}", "/api/v1/installations"):
            assert (let_in.ask("GET", path).status, let_in.ask("GET", path).code) == (403, "forbidden")
        assert phone.push(batch(phone.who, *full)).code == "account-disabled"
    finally:
        set_disabled(ground, "stranger", None)
    record = desk.ask("GET", f"/api/v1/incidents/{full[1]['record']}").json
    assert record["officer"]["username"] == "stranger"
    assert [each["received"] for each in record["photos"]] == [True]
    assert desk.ask("GET", "/api/v1/installations?unsent=true").json["items"] == []
    assert desk.ask("GET", "/api/v1/installations?holes=true").json["items"] == []
    assert holds(ground)


def test_a_phone_handed_on_keeps_what_the_first_officer_left_on_it_for_the_first(ground: Ground) -> None:
    first, desk = ground.handset("officer"), ground.handset("supervisor")
    out = patrol(["officer", "partner"])
    left = numbered(out, incident(out), incident(out))
    second = ground.handset("stranger", first.who.install_id)
    assert first.push(batch(first.who, left[0], next_n=4, unsent=[[2, 3]])).json["holes"] == []

    theirs = patrol(["stranger", "partner"]) | {"n": 4}
    assert second.push(batch(second.who, theirs, unsent=[[2, 3]])).json["holes"] == []
    assert outcomes(first.push(batch(first.who, left[1], next_n=5, unsent=[[3, 3]])).json) == ["applied"]

    assert first.ask("POST", "/api/v1/auth/logout").status == 204
    assert first.push(batch(first.who, left[2], next_n=5)).code == "token-invalid"
    let_in = permitted(first, permit(desk, first, officer="officer"))
    assert outcomes(let_in.push(batch(first.who, left[2], next_n=5)).json) == ["applied"]
    assert second.push(batch(second.who, next_n=5)).json["holes"] == []

    owner = {row.n: row.officer_id for row in ground.stored(*left, theirs)}
    assert owner == dict.fromkeys((1, 2, 3), first.who.account_id) | {4: second.who.account_id}
    for phone, numbers in ((let_in, [1, 2, 3]), (second, [4])):
        held = phone.ask("GET", f"/api/v1/sync/operations?install={first.who.install_id}").json["operations"]
        assert [each["n"] for each in held] == numbers
    assert desk.ask("GET", "/api/v1/installations?holes=true").json["items"] == []
    assert holds(ground)


def holds(ground: Ground) -> bool:
    """Whether everything is as it was sworn to."""
    with Session(ground.engine) as session:
        begin_read(session)
        assert session.scalars(select(Operation.id)).first() is not None
        return bool(list(verify(session)))
