"""Vendors at the door: roles, shapes, what is refused."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from typing import Any
from urllib.parse import quote

import pytest
from flask.testing import FlaskClient
from sqlalchemy.orm import Session

from sync import vendor_shapes
from sync.models import ROLES, SignedIn, Vendor
from tests.builders import YINONG, make_lists, make_signed_in
from tests.sync.records import make_patrol
from tests.sync.street import WANG, hours_ago, make_vendor, warn

URL = "/api/v1/vendors"
Headers = dict[str, str]
Bearer = Callable[..., Headers]


@pytest.fixture
def officer(session: Session) -> SignedIn:
    make_lists(session)
    return make_signed_in(session)


@pytest.fixture
def vendor(session: Session, officer: SignedIn) -> Vendor:
    """A vendor of 瓜沥镇 who was warned there."""
    vendor = make_vendor(session, **WANG)
    warn(session, make_patrol(session, officer), officer, vendor, hours_ago(3))
    session.commit()
    return vendor


def signed_in(session: Session, bearer: Bearer, role: str, **more: Any) -> Headers:
    who = make_signed_in(session, username=f"a-{role}", role=role, **more)
    session.commit()
    return bearer(who)


def told(answer: Any) -> tuple[int, str]:
    assert answer.mimetype == "application/problem+json"
    return answer.status_code, answer.json["code"]


@pytest.mark.parametrize("role", ROLES)
def test_each_role_sees_what_is_its_own(
    client: FlaskClient, session: Session, bearer: Bearer, vendor: Vendor, role: str
) -> None:
    headers = signed_in(session, bearer, role)
    page = client.get(f"{URL}?name=wjg&limit=1", headers=headers)
    assert page.status_code == 200
    assert vendor_shapes.VendorsDocument().validate(page.json) == {}
    (card,) = page.json["items"]
    answer = client.get(f"{URL}/{vendor.id}", headers=headers)
    assert answer.status_code == 200
    assert vendor_shapes.OneVendorDocument().validate(answer.json) == {}
    whole = role in ("supervisor", "reviewer", "admin")
    assert card["phone"] == answer.json["phone"] == (WANG["phone"] if whole else "138****0001")
    assert answer.json["warned"]["events"] == len(answer.json["warnings"]) == 1
    for asked in (f"phone={WANG['phone']}", f"plate={quote(WANG['plate'])}"):
        found = client.get(f"{URL}?{asked}", headers=headers)
        assert found.status_code == (200 if role in ("supervisor", "reviewer") else 403)
        if found.status_code == 403:
            assert (found.json["code"], found.json["roles"]) == ("forbidden", ["reviewer", "supervisor"])


def test_nobody_without_a_token_asks(client: FlaskClient, vendor: Vendor) -> None:
    for url in (URL, f"{URL}/{vendor.id}"):
        assert told(client.get(url)) == (401, "token-invalid")


def test_a_vendor_of_another_township_is_not_there(
    client: FlaskClient, session: Session, bearer: Bearer, vendor: Vendor
) -> None:
    headers = signed_in(session, bearer, "supervisor", townships=[YINONG])
    assert client.get(f"{URL}?phone={WANG['phone']}", headers=headers).json == {"items": [], "next": None}
    for id in (vendor.id, uuid.uuid4()):
        assert told(client.get(f"{URL}/{id}", headers=headers)) == (404, "not-found")
    assert told(client.get(f"{URL}/none", headers=headers)) == (404, "not-found")


@pytest.mark.parametrize(
    "query",
    [
        "phone=",
        "phone=%00",
        "phone=no",
        "phone=1380001000&phone=1380001000",
        "plate=%20",
        "stall=cart",
        "name=%25",
        f"name={'x' * 81}",
        "township=",
        "limit=0",
        "limit=501",
        "limit=1.5",
        "cursor=x",
        "cursor=%00",
        "who=x",
        "count=true",
    ],
)
def test_a_filter_that_makes_no_sense_is_refused(
    client: FlaskClient, session: Session, bearer: Bearer, vendor: Vendor, query: str
) -> None:
    headers = signed_in(session, bearer, "supervisor")
    assert told(client.get(f"{URL}?{query}", headers=headers)) == (400, "query-invalid")
