"""Batches through the door: status, role, shape, and what a network does to a body."""

from __future__ import annotations

import base64
import gzip
import hashlib
import json
import uuid
from collections.abc import Callable
from typing import Any

import orjson
import pytest
from flask.testing import FlaskClient
from sqlalchemy import Engine, func, select
from sqlalchemy.orm import Session

from sync.models import Operation, SignedIn
from tests.builders import make_account, make_lists, make_signed_in
from tests.sync.days import batch, incident, operation, outcomes, patrol

URL = "/api/v1/sync/batches"
Headers = dict[str, str]


@pytest.fixture
def officer(session: Session) -> SignedIn:
    make_lists(session)
    make_account(session, username="partner")
    who = make_signed_in(session)
    session.commit()
    return who


@pytest.fixture
def headers(officer: SignedIn, bearer: Callable[..., Headers]) -> Headers:
    return bearer(officer) | {"Content-Type": "application/json"}


def kept(engine: Engine) -> int:
    with Session(engine) as session:
        return session.scalar(select(func.count()).select_from(Operation)) or 0


def test_a_batch_is_answered_with_its_receipt_now_and_later(
    client: FlaskClient, officer: SignedIn, headers: Headers
) -> None:
    out = patrol()
    day = batch(officer, out, incident(out))
    answer = client.post(URL, data=orjson.dumps(day), headers=headers)
    assert (answer.status_code, answer.mimetype) == (200, "application/json")
    assert outcomes(answer.json) == ["applied", "applied"]
    later = client.get(f"{URL}/{day['batch']}", headers=headers)
    assert later.json == answer.json


def test_a_batch_id_used_once_more_keeps_the_receipt_of_both(
    client: FlaskClient, officer: SignedIn, headers: Headers
) -> None:
    first, more = batch(officer, patrol()), patrol()
    for day in (first, first | {"ops": [*first["ops"], more]}, first):
        client.post(URL, data=orjson.dumps(day), headers=headers)
    told = client.get(f"{URL}/{first['batch']}", headers=headers).json
    assert [result["op"] for result in told["results"]] == [first["ops"][0]["op"], more["op"]]


def test_a_receipt_is_for_the_officer_who_sent_the_batch(
    client: FlaskClient, officer: SignedIn, headers: Headers, session: Session, bearer: Callable[..., Headers]
) -> None:
    day = batch(officer, patrol())
    client.post(URL, data=orjson.dumps(day), headers=headers)
    other = make_signed_in(session, username="other")
    session.commit()
    assert client.get(f"{URL}/{day['batch']}", headers=bearer(other)).status_code == 404


def test_what_the_server_holds_can_be_asked_by_counter(
    client: FlaskClient, officer: SignedIn, headers: Headers
) -> None:
    out = patrol()
    client.post(URL, data=orjson.dumps(batch(officer, out, incident(out))), headers=headers)
    query = {"install": str(officer.install_id), "n_from": out["n"], "n_to": out["n"]}
    held = client.get("/api/v1/sync/operations", query_string=query, headers=headers).json
    assert [(o["n"], o["op"], o["outcome"]) for o in held["operations"]] == [(out["n"], out["op"], "applied")]


def test_packed_and_digested_bodies_are_taken(client: FlaskClient, officer: SignedIn, headers: Headers) -> None:
    packed = gzip.compress(orjson.dumps(batch(officer, patrol())))
    digest = base64.b64encode(hashlib.sha256(packed).digest()).decode()
    extra = {"Content-Encoding": "gzip", "Content-Digest": f"sha-256=:{digest}:"}
    assert client.post(URL, data=packed, headers=headers | extra).status_code == 200


def _flip(body: bytes) -> tuple[bytes, Headers]:
    digest = base64.b64encode(hashlib.sha256(body + b" ").digest()).decode()
    return body, {"Content-Digest": f"sha-256=:{digest}:"}


BROKEN: list[tuple[str, Callable[[bytes], tuple[bytes, Headers]], int, str]] = [
    ("not JSON", lambda body: (b"patrol", {}), 400, "malformed"),
    ("cut in the middle", lambda body: (body[:-10], {}), 400, "malformed"),
    ("not UTF-8", lambda body: (b'{"batch": "\xff"}', {}), 400, "malformed"),
    ("an array", lambda body: (b"[]", {}), 422, "envelope-invalid"),
    ("no operations", lambda body: (b"{}", {}), 422, "envelope-invalid"),
    ("a wrong digest", _flip, 400, "digest-mismatch"),
    ("a digest that is no base64", lambda body: (body, {"Content-Digest": "sha-256=:A:"}), 400, "malformed"),
    ("8 MiB and 1", lambda body: (b" " * (8 * 1024 * 1024 + 1), {}), 413, "batch-too-large"),
    ("a gzip bomb", lambda body: (gzip.compress(bytes(2**28)), {"Content-Encoding": "gzip"}), 413, "batch-too-large"),
    ("a cut gzip", lambda body: (gzip.compress(body)[:-4], {"Content-Encoding": "gzip"}), 400, "body-truncated"),
    ("no gzip at all", lambda body: (body, {"Content-Encoding": "gzip"}), 400, "malformed"),
    ("brotli", lambda body: (body, {"Content-Encoding": "br"}), 415, "unsupported-media-type"),
]


@pytest.mark.parametrize(("name", "breaking", "status", "code"), BROKEN, ids=[case[0] for case in BROKEN])
def test_a_body_that_cannot_be_taken_stores_nothing_and_says_why(
    client: FlaskClient,
    officer: SignedIn,
    headers: Headers,
    engine: Engine,
    name: str,
    breaking: Any,
    status: int,
    code: str,
) -> None:
    body, extra = breaking(orjson.dumps(batch(officer, patrol())))
    answer = client.post(URL, data=body, headers=headers | extra)
    assert (answer.status_code, answer.mimetype) == (status, "application/problem+json"), name
    assert answer.json["code"] == code
    assert kept(engine) == 0


def test_more_operations_than_allowed_are_sent_back_to_be_halved(
    client: FlaskClient, officer: SignedIn, headers: Headers
) -> None:
    day = batch(officer, *(operation("patrol.create", body={}) for _ in range(1001)))
    answer = client.post(URL, data=orjson.dumps(day), headers=headers)
    assert (answer.status_code, answer.json["code"]) == (413, "batch-too-large")
    day["ops"].pop()
    assert client.post(URL, data=orjson.dumps(day), headers=headers).status_code == 200


ENVELOPES = [
    ({"batch": "no-uuid"}, "/batch"),
    ({"install": None}, "/install"),
    ({"next_n": "7"}, "/next_n"),
    ({"next_n": True}, "/next_n"),
    ({"next_n": 2**70}, None),
    ({"unsent": [[3, 1]]}, "/unsent/0"),
    ({"unsent": [[3]]}, "/unsent/0"),
    ({"sent": {"wall": "2026-11-23T08:00:00"}}, "/sent/wall"),
    ({"ops": {}}, "/ops"),
    ({"surprise": 1}, "/surprise"),
]


@pytest.mark.parametrize(("parts", "pointer"), ENVELOPES)
def test_an_envelope_with_a_wrong_field_is_refused_by_pointer(
    client: FlaskClient, officer: SignedIn, headers: Headers, parts: Any, pointer: str | None
) -> None:
    answer = client.post(URL, data=json.dumps(batch(officer, patrol()) | parts), headers=headers)
    if pointer is None:
        assert (answer.status_code, answer.json["code"]) == (400, "malformed")
    else:
        assert (answer.status_code, answer.json["code"]) == (422, "envelope-invalid")
        assert pointer in [error["pointer"] for error in answer.json["errors"]]


def test_a_batch_of_another_installation_is_a_bad_token(
    client: FlaskClient, officer: SignedIn, headers: Headers
) -> None:
    day = batch(officer, patrol(), install=str(uuid.uuid4()))
    answer = client.post(URL, data=orjson.dumps(day), headers=headers)
    assert (answer.status_code, answer.json["code"]) == (401, "token-invalid")


def test_those_who_do_not_go_out_do_not_push(
    client: FlaskClient, session: Session, bearer: Callable[..., Headers]
) -> None:
    make_lists(session)
    gis = make_signed_in(session, username="gis", role="gis")
    session.commit()
    assert client.post(URL, data=b"{}", headers=bearer(gis)).status_code == 403


@pytest.mark.parametrize("depth", [240, 249, 250, 251, 252, 253, 254])
def test_what_is_nested_as_deep_as_it_may_be_never_keeps_a_record_from_being_opened(
    client: FlaskClient, officer: SignedIn, headers: Headers, depth: int
) -> None:
    out = patrol()
    deep = operation("patrol.amend", uuid.UUID(out["record"]), base=1, set="HERE")
    body = orjson.dumps(batch(officer, out, deep)).replace(b'"HERE"', b"[" * depth + b"]" * depth)
    assert outcomes(client.post(URL, data=body, headers=headers).json) == ["applied", "quarantined"]
    answer = client.get(f"/api/v1/patrols/{out['record']}", headers=headers)
    assert (answer.status_code, answer.json["version"]) == (200, 1)


def test_what_is_not_valid_is_not_shown_to_those_who_see_personal_data_masked(
    client: FlaskClient, officer: SignedIn, headers: Headers, session: Session, bearer: Callable[..., Headers]
) -> None:
    out = patrol()
    seen = incident(out)
    odd = operation("incident.amend", uuid.UUID(seen["record"]), base=1, set={"parties": [{"tel": "10000000001"}]})
    client.post(URL, data=orjson.dumps(batch(officer, out, seen, odd)), headers=headers)
    gis = make_signed_in(session, username="gis", role="gis")
    session.commit()
    for who, shown in ((headers, True), (bearer(gis), False)):
        answer = client.get(f"/api/v1/incidents/{seen['record']}", headers=who)
        assert ("10000000001" in answer.text) is shown
