"""Whatever is sent, the answer has a status and a stable code, good neighbours are kept, and nothing is lost."""

from __future__ import annotations

import base64
import datetime as dt
import gzip
import hashlib
import uuid
from collections.abc import Callable
from typing import Any

import jwt
import orjson
import pytest
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from sync.evidence import verify
from sync.models import Operation, begin_read
from sync.wire import MAX_OPERATION_BYTES
from tests.builders import YINONG, YIPENG
from tests.journeys.ground import BATCHES, UPLOADS, Ground, Handset
from tests.journeys.serving import SECRET
from tests.sync.days import AT, IN_GUALI, amend, batch, incident, operation, patrol, void, warning

pytestmark = pytest.mark.parametrize(
    "ground", ["gunicorn on postgresql", "waitress on sqlite"], indirect=True, scope="module"
)
Op = dict[str, Any]


@pytest.fixture(scope="module")
def phone(ground: Ground) -> Handset:
    return ground.handset()


# ---------------------------------------------------------------- bodies that can't be taken


def _digested(digest: bytes) -> dict[str, str]:
    return {"content_digest": f"sha-256=:{base64.b64encode(digest).decode()}:"}


def _cut_ops(body: bytes) -> bytes:
    return body[: body.index(b'"ops"') + 20]


DEEP = b"[" * 100_000 + b"]" * 100_000
#: what is made of a good body, headers, status, code
BODIES: list[tuple[str, Callable[[bytes], bytes], dict[str, str], int, str]] = [
    ("not JSON", lambda body: b"patrol", {}, 400, "malformed"),
    ("cut JSON", _cut_ops, {}, 400, "malformed"),
    ("two bodies", lambda body: body * 2, {}, 400, "malformed"),
    ("a byte order mark", lambda body: b"\xef\xbb\xbf" + body, {}, 400, "malformed"),
    ("UTF-16", lambda body: body.decode().encode("utf-16"), {}, 400, "malformed"),
    ("a NUL behind", lambda body: body + b"\x00", {}, 400, "malformed"),
    ("ops twice", lambda body: body[:-1] + b',"ops":[]}', {}, 400, "malformed"),
    ("NaN in the envelope", lambda body: body[:-1] + b',"x":NaN}', {}, 400, "malformed"),
    ("1e400 in the envelope", lambda body: body[:-1] + b',"x":1e400}', {}, 400, "malformed"),
    ("half a character in the envelope", lambda body: body[:-1] + b',"x":"\\ud800"}', {}, 400, "malformed"),
    ("a huge integer in the envelope", lambda body: body[:-1] + b',"x":%d}' % 2**70, {}, 400, "malformed"),
    ("100,000 brackets", lambda body: DEEP, {}, 400, "malformed"),
    ("100,000 brackets in the envelope", lambda body: body[:-1] + b',"x":' + DEEP + b"}", {}, 400, "malformed"),
    ("an array", lambda body: b"[" + body + b"]", {}, 422, "envelope-invalid"),
    ("null", lambda body: b"null", {}, 422, "envelope-invalid"),
    ("a field unknown", lambda body: body[:-1] + b',"surprise":1}', {}, 422, "envelope-invalid"),
    ("a NUL in a field unknown", lambda body: body[:-1] + b',"\\u0000":1}', {}, 422, "envelope-invalid"),
    ("a NUL in the app", lambda body: body.replace(b'"3.2.1"', b'"\\u0000"'), {}, 422, "envelope-invalid"),
    ("8 MiB and a byte", lambda body: body + b" " * (8 * 2**20 + 1 - len(body)), {}, 413, "batch-too-large"),
    ("a bomb", lambda body: gzip.compress(bytes(2**28)), {"content_encoding": "gzip"}, 413, "batch-too-large"),
    ("cut gzip", lambda body: gzip.compress(body)[:-1], {"content_encoding": "gzip"}, 400, "body-truncated"),
    ("no gzip", lambda body: body, {"content_encoding": "gzip"}, 400, "malformed"),
    ("two packings", lambda body: body, {"content_encoding": "gzip, gzip"}, 415, "unsupported-media-type"),
    ("deflate", lambda body: body, {"content_encoding": "deflate"}, 415, "unsupported-media-type"),
    ("a wrong digest", lambda body: body, _digested(bytes(32)), 400, "digest-mismatch"),
    ("a digest too short", lambda body: body, _digested(bytes(20)), 400, "digest-mismatch"),
]


@pytest.mark.parametrize(("name", "spoil", "headers", "status", "code"), BODIES, ids=[case[0] for case in BODIES])
def test_a_body_that_can_not_be_taken_stores_nothing_and_the_good_one_is_taken_afterwards(
    ground: Ground, phone: Handset, name: str, spoil: Any, headers: dict[str, str], status: int, code: str
) -> None:
    day = batch(phone.who, patrol())
    good = orjson.dumps(day)
    answer = phone.push(spoil(good), **headers)
    assert (answer.status, answer.code) == (status, code)
    assert answer.headers["Content-Type"] == "application/problem+json"
    assert ground.stored(*day["ops"]) == []
    assert phone.ask("GET", f"{BATCHES}/{day['batch']}").status == 404

    right = hashlib.sha256(good).digest()
    (result,) = phone.push(good, **_digested(right)).json["results"]
    assert (result["outcome"], result["replayed"]) == ("applied", False)


def test_as_many_operations_as_allowed_are_taken_and_one_more_is_sent_back(ground: Ground) -> None:
    phone = ground.handset()
    day = batch(phone.who, *({"op": str(uuid.uuid4()), "n": n} for n in range(1, 1_002)))
    answer = phone.push(day)
    assert (answer.status, answer.code, answer.json["most_operations"]) == (413, "batch-too-large", 1_000)
    assert ground.stored(*day["ops"][:10]) == []
    day["ops"].pop()
    answer = phone.push(day)
    assert {result["problem"]["code"] for result in answer.json["results"]} == {"unknown-kind"}
    assert answer.json["holes"] == [[1_001, 1_001]]


ENVELOPES: list[tuple[dict[str, Any], str]] = [
    *(({"batch": value}, "/batch") for value in (None, 5, "", "x", [], {})),
    *(({"install": value}, "/install") for value in (None, 5, "", "x", [], {})),
    *(({"next_n": value}, "/next_n") for value in (None, 0, -1, 1.5, "7", True, 2**53, [], {})),
    *(({"app": value}, "/app") for value in (5, [], {}, "x" * 200)),
    *(({"unsent": value}, "/unsent") for value in (5, {}, "x", [5], [[1]], [[1, 2, 3]], [[2, 1]], [["1", "2"]])),
    *(({"sent": value}, "/sent") for value in (5, [], "x", {"x": 1}, {"mono_ms": -1}, {"boot": 7})),
    *(({"sent": {"wall": value}}, "/sent/wall") for value in (5, "", "now", "2026-11-23T08:00:00", "2026-11-23")),
    *(({"ops": value}, "/ops") for value in (None, 5, {}, "x")),
]


def test_every_field_of_the_envelope_is_read_strictly(ground: Ground, phone: Handset) -> None:
    good = patrol()
    for parts, pointer in ENVELOPES:
        answer = phone.push(batch(phone.who, good) | parts)
        assert (answer.status, answer.code) == (422, "envelope-invalid"), parts
        assert any(error["pointer"].startswith(pointer) for error in answer.json["errors"]), (parts, answer.json)
    assert ground.stored(good) == []


# ---------------------------------------------------------------- operations that can't be taken


def _op(kind: str = "incident.create", **parts: Any) -> Callable[[Op], Op]:
    return lambda out: operation(kind, **({"body": incident(out)["body"], "fix": IN_GUALI} | parts))


def _incident(**parts: Any) -> Callable[[Op], Op]:
    return lambda out: incident(out, **parts)


def _at(**parts: Any) -> Callable[[Op], Op]:
    return lambda out: incident(out) | {"at": AT | parts}


def _fix(**parts: Any) -> Callable[[Op], Op]:
    return lambda out: incident(out, fix=IN_GUALI | parts)


LONG = "长" * MAX_OPERATION_BYTES
#: what is sent between two good neighbours, the code of its problem, and of its first flaw
OPERATIONS: list[tuple[str, Callable[[Op], Any], str, str | None]] = [
    ("a number", lambda out: 5, "invalid", "type"),
    ("null", lambda out: None, "invalid", "type"),
    ("an array", lambda out: [1, [2]], "invalid", "type"),
    ("nothing in it", lambda out: {}, "unknown-kind", "required"),
    ("an unknown kind", _op("incident.delete"), "unknown-kind", "unknown"),
    ("a kind that is none", _op(kind=5), "unknown-kind", "unknown"),
    ("a body that is none", _op(body=[]), "invalid", "type"),
    ("no body", _op(body=None), "invalid", "null"),
    ("a NUL in a text", _incident(description="a\x00b"), "invalid", "nul"),
    ("a NUL in an unknown name", _incident(**{"\x00": 1}), "invalid", "unknown-field"),
    ("an unknown name", _incident(surprise=1), "invalid", "unknown-field"),
    ("a wrong type", _incident(items="DEMO-SR-001"), "invalid", "type"),
    ("a number for a text", _incident(description=5), "invalid", "type"),
    ("true for a number", lambda out: incident(out) | {"n": True}, "invalid", "type"),
    ("a fraction for a number", lambda out: incident(out) | {"n": 1.5}, "invalid", "type"),
    ("a number beyond JavaScript", _at(mono_ms=2**53), "invalid", "range"),
    ("a number beyond bigint", _at(mono_ms=2**63), "invalid", "range"),
    ("a text too long", _incident(description="长" * 4_001), "invalid", "too-long"),
    ("too large", _incident(description=LONG), "op-too-large", None),
    ("a naive time", _at(wall="2026-11-23T08:00:00"), "invalid", "naive-time"),
    ("no time", _at(wall="yesterday"), "invalid", "format"),
    ("a longitude out of range", _fix(lon=181), "invalid", "range"),
    ("swapped", _fix(lon=30.18, lat=120.46), "invalid", "swapped"),
    ("an unknown system", _fix(crs="mars"), "invalid", "one-of"),
    ("an unknown township", _incident(township="330109999"), "unknown-township", "unknown"),
    ("an unknown item", _incident(items=["NOPE"]), "unknown-item", "unknown"),
    ("an unknown class", _incident(event_class="99999"), "unknown-event-class", "unknown"),
    ("an unknown place", _incident(designated_place="NOPE"), "unknown-place", "unknown"),
    ("no officer", lambda out: patrol([]), "invalid", "too-short"),
    ("a parent of another kind", lambda out: warning(out), "wrong-record-kind", "kind"),
    ("a record that is there", lambda out: patrol(record=uuid.UUID(out["record"])), "record-exists", None),
    ("a void without a reason", lambda out: void(out, ""), "invalid", "format"),
    ("an amend of nothing known", lambda out: amend(out, 1, surprise=1), "invalid", "unknown-field"),
]


@pytest.mark.parametrize(("name", "bad", "code", "flaw"), OPERATIONS, ids=[case[0] for case in OPERATIONS])
def test_an_operation_that_can_not_be_accepted_waits_and_its_neighbours_go_through(
    ground: Ground, phone: Handset, name: str, bad: Callable[[Op], Any], code: str, flaw: str | None
) -> None:
    out = patrol()
    sent = [out, incident(out), bad(out), incident(out)]
    day = batch(phone.who, *sent)
    first, again = phone.push(day), phone.push(day)
    assert first.status == again.status == 200
    assert [result["outcome"] for result in first.json["results"]] == ["applied", "applied", "quarantined", "applied"]
    problem = first.json["results"][2]["problem"]
    assert (problem["code"], (problem.get("errors") or [{"code": None}])[0]["code"]) == (code, flaw)
    assert again.json["results"] == [result | {"replayed": True} for result in first.json["results"]]
    assert phone.ask("GET", f"{BATCHES}/{day['batch']}").json["results"] == first.json["results"]
    if isinstance(sent[2], dict) and "op" in sent[2]:
        (row,) = ground.stored(sent[2])
        assert orjson.loads(row.raw) == sent[2]


RAW: list[tuple[str, bytes, str]] = [
    ("NaN", b"NaN", "not-a-number"),
    ("1e400", b"1e400", "number-too-large"),
    ("a huge integer", b"%d" % 2**70, "number-too-large"),
    ("half a character", b'"\\udfff"', "lone-surrogate"),
    ("100,000 brackets", DEEP, "too-deep"),
    ("a key twice", b'{"a":1,"a":2}', "duplicate-key"),
    ("not UTF-8", b'"\xff"', "not-utf-8"),
    ("a raw NUL", b'"\x00"', "syntax"),
    ("no JSON", b"undefined", "syntax"),
]


@pytest.mark.parametrize(("name", "value", "why"), RAW, ids=[case[0] for case in RAW])
def test_json_that_can_not_be_kept_is_kept_as_bytes(
    ground: Ground, phone: Handset, name: str, value: bytes, why: str
) -> None:
    out, mark = patrol(), b'"5ae1f6b0"'
    bad = incident(out, description="5ae1f6b0")
    raw = orjson.dumps(bad).replace(mark, value)
    body = orjson.dumps(batch(phone.who, out, bad, incident(out))).replace(mark, value)
    for replayed in (False, True):
        answer = phone.push(body)
        assert answer.status == 200
        before, spoilt, after = answer.json["results"]
        assert before["outcome"] == after["outcome"] == "applied"
        assert (spoilt["outcome"], spoilt["replayed"], spoilt["n"]) == ("quarantined", replayed, bad["n"])
        assert spoilt["problem"]["code"] == "unreadable"
        assert spoilt["problem"]["errors"] == [{"pointer": "", "code": why}]
    (row,) = ground.stored(bad)
    assert bytes(row.raw) == raw


NOTED: list[tuple[str, Callable[[Op], Op], str]] = [
    ("0/0", _fix(lon=0, lat=0), "no-fix"),
    ("no fix", lambda out: incident(out, fix=None), "no-fix"),
    ("the year 1970", _at(wall="1970-01-01T00:00:00Z", boot="old", mono_ms=5), "clock-unknown"),
    ("the year 2036", _at(wall="2036-02-07T06:28:16Z", boot="old", mono_ms=5), "clock-unknown"),
    ("nothing of when", lambda out: incident(out) | {"at": {}}, "clock-unknown"),
    ("an unknown officer", lambda out: patrol(["officer", "nobody"]), "unknown-officer"),
    ("a retired code", _incident(township=YIPENG), "township-retired"),
    ("another township than the fix", _incident(township=YINONG), "township-mismatch"),
    ("far away", _fix(lon=-179.9, lat=-89.9), "outside-district"),
    ("an accuracy beyond the earth", _fix(accuracy_m=1_000_000), "poor-accuracy"),
]


@pytest.mark.parametrize(("name", "odd", "note"), NOTED, ids=[case[0] for case in NOTED])
def test_what_is_odd_is_kept_and_remarked(phone: Handset, name: str, odd: Callable[[Op], Op], note: str) -> None:
    out = patrol()
    result = phone.push(batch(phone.who, out, odd(out))).json["results"][1]
    assert result["outcome"] == "applied"
    assert note in [said["code"] for said in result["notes"]]


def test_what_names_something_that_never_came_waits(phone: Handset) -> None:
    out = patrol()
    seen = incident(out)
    unknown = [
        incident(out, patrol=str(uuid.uuid4())),
        warning(seen, vendor=str(uuid.uuid4())),
        amend(patrol(), 1, purpose="x"),
        amend(seen, 7, description="x"),
        void(patrol(), "x"),
    ]
    results = phone.push(batch(phone.who, out, seen, *unknown)).json["results"]
    assert [result["outcome"] for result in results] == ["applied", "applied"] + ["held"] * 5
    assert all(result["waits_for"] for result in results[2:])


def test_an_id_used_again_for_something_else_leaves_the_first_alone(ground: Ground, phone: Handset) -> None:
    out = patrol()
    seen = incident(out)
    phone.push(batch(phone.who, out, seen))
    reused = incident(out) | {"op": seen["op"]}
    for replayed in (False, True):
        (result,) = phone.push(batch(phone.who, reused)).json["results"]
        assert (result["problem"]["code"], result["replayed"]) == ("op-reused", replayed)
    assert {row.outcome for row in ground.stored(seen)} == {"applied", "quarantined"}


def test_anothers_record_is_not_changed_and_the_attempt_is_kept(ground: Ground, phone: Handset) -> None:
    out = patrol()
    phone.push(batch(phone.who, out))
    stranger = ground.handset("stranger")
    attempts = [amend(out, 1, purpose="改"), void(out, "改")]
    results = stranger.push(batch(stranger.who, *attempts)).json["results"]
    assert [result["problem"]["code"] for result in results] == ["not-yours", "not-yours"]
    assert len(ground.stored(*attempts)) == 2


# ---------------------------------------------------------------- tokens


def _forged(token: str, key: str = SECRET, **claims: Any) -> str:
    said = jwt.decode(token, options={"verify_signature": False})
    return jwt.encode(said | claims, key, algorithm="HS256")


def _long_ago() -> int:
    return int(dt.datetime(2026, 1, 1, tzinfo=dt.UTC).timestamp())


def _unsigned(token: str) -> str:
    return jwt.encode(jwt.decode(token, options={"verify_signature": False}), None, algorithm="none")  # type: ignore[arg-type]


TOKENS: list[tuple[str, Callable[[str], str]]] = [
    ("none", lambda token: ""),
    ("no Bearer", lambda token: token),
    ("Basic", lambda token: "Basic b2ZmaWNlcjp4"),
    ("empty", lambda token: "Bearer "),
    ("two", lambda token: f"Bearer {token} {token}"),
    ("garbage", lambda token: "Bearer garbage"),
    ("dots", lambda token: "Bearer .."),
    ("garbage in parts", lambda token: "Bearer a.b.c"),
    ("deep", lambda token: "Bearer " + base64.urlsafe_b64encode(b"[" * 5_000).decode() + ".e30.e30"),
    ("cut", lambda token: f"Bearer {token[:-1]}"),
    ("of another key", lambda token: f"Bearer {_forged(token, 'another secret, long enough as well')}"),
    ("unsigned", lambda token: f"Bearer {_unsigned(token)}"),
    ("expired", lambda token: f"Bearer {_forged(token, exp=_long_ago())}"),
    ("not yet valid", lambda token: f"Bearer {_forged(token, nbf=_long_ago() + 10**9)}"),
    ("of another service", lambda token: f"Bearer {_forged(token, aud='another')}"),
    ("of another issuer", lambda token: f"Bearer {_forged(token, iss='another')}"),
    ("a refresh token", lambda token: f"Bearer {_forged(token, type='refresh')}"),
    ("nobody's", lambda token: f"Bearer {_forged(token, sub='999999')}"),
    ("of no number", lambda token: f"Bearer {_forged(token, sub='officer')}"),
    ("of a number too large", lambda token: f"Bearer {_forged(token, sub=str(2**70))}"),
    ("of another installation", lambda token: f"Bearer {_forged(token, install=str(uuid.uuid4()))}"),
    ("of no installation", lambda token: f"Bearer {_forged(token, install=5)}"),
    ("of another sign-in", lambda token: f"Bearer {_forged(token, family=str(uuid.uuid4()))}"),
]


@pytest.mark.parametrize(("name", "make"), TOKENS, ids=[case[0] for case in TOKENS])
def test_every_bad_token_is_401_and_costs_nothing(
    ground: Ground, phone: Handset, name: str, make: Callable[[str], str]
) -> None:
    day = batch(phone.who, patrol())
    answer = phone.push(day, authorization=make(phone.token))
    assert (answer.status, answer.code) == (401, "token-invalid")
    assert ground.stored(*day["ops"]) == []
    assert phone.push(day).status == 200


def test_a_batch_of_another_installation_is_401_and_stores_nothing(ground: Ground, phone: Handset) -> None:
    other = ground.handset()
    day = batch(other.who, patrol())
    answer = phone.push(day)
    assert (answer.status, answer.code) == (401, "token-invalid")
    assert ground.stored(*day["ops"]) == []
    assert other.push(day).status == 200


# ---------------------------------------------------------------- photos, look-ups, addresses

PICTURE = b"\xff\xd8 evidence"
NAME = hashlib.sha256(PICTURE).hexdigest()
PHOTOS: list[tuple[str, str, bytes, int, str]] = [
    ("other bytes", NAME, PICTURE + b"!", 422, "photo-digest-mismatch"),
    ("no bytes", NAME, b"", 422, "photo-digest-mismatch"),
    ("capitals", NAME.upper(), PICTURE, 400, "photo-invalid"),
    ("no digest", "x", PICTURE, 400, "photo-invalid"),
    ("a way out", "..%2f..%2fetc%2fpasswd", PICTURE, 404, "not-found"),
    ("20 MiB and a byte", NAME, bytes(20 * 2**20 + 1), 413, "photo-too-large"),
]


@pytest.mark.parametrize(("name", "called", "content", "status", "code"), PHOTOS, ids=[case[0] for case in PHOTOS])
def test_a_photo_that_is_not_what_it_is_called_is_not_kept(
    ground: Ground, phone: Handset, name: str, called: str, content: bytes, status: int, code: str
) -> None:
    answer = phone.ask("PUT", f"{UPLOADS}/{called}", content)
    assert (answer.status, answer.code) == (status, code)
    assert [path for path in (ground.folder / "photos").rglob("*") if path.is_file()] == []


#: Refused before the body is looked at.
AT_ONCE: list[tuple[str, str, dict[str, str], int]] = [
    ("POST", BATCHES, {"authorization": "Bearer expired"}, 401),
    ("POST", BATCHES, {"authorization": ""}, 401),
    ("POST", BATCHES, {"content_encoding": "br"}, 415),
    ("PUT", f"{UPLOADS}/x", {}, 400),
    ("PUT", f"{UPLOADS}/{NAME}", {"authorization": "Bearer expired"}, 401),
    ("POST", "/api/v1/nowhere", {}, 404),
    ("DELETE", BATCHES, {}, 405),
    ("POST", "/api/v1/auth/login", {}, 413),
]


@pytest.mark.parametrize(("method", "path", "headers", "status"), AT_ONCE)
def test_a_refusal_is_heard_however_much_was_being_said(
    phone: Handset, method: str, path: str, headers: dict[str, str], status: int
) -> None:
    """A phone that only ever meets a dead line would send the same again for ever."""
    for size in (300_000, 25 * 2**20):
        assert phone.ask(method, path, b"x" * size, **headers).status == status


#: An id that nothing has; the same in every process, for tests are named after it.
NOBODYS = uuid.UUID(int=7)
LOOK_UPS: list[tuple[str, int, str]] = [
    (f"{BATCHES}/{NOBODYS}", 404, "not-found"),
    (f"{BATCHES}/x", 404, "not-found"),
    ("/api/v1/sync/operations", 400, "query-invalid"),
    ("/api/v1/sync/operations?install=x", 400, "query-invalid"),
    (f"/api/v1/sync/operations?install={NOBODYS}&n_from=x", 400, "query-invalid"),
    (f"/api/v1/sync/operations?install={NOBODYS}&n_to={2**70}", 400, "query-invalid"),
    (f"/api/v1/sync/operations?install={NOBODYS}&surprise=1", 400, "query-invalid"),
    ("/api/v1/sync/operations?install=%00", 400, "query-invalid"),
    ("/api/v1/sync/operations?install=%ff", 400, "query-invalid"),
    ("/api/v1/nowhere", 404, "not-found"),
    ("/api/v1/sync/batches", 405, "method-not-allowed"),
]


@pytest.mark.parametrize(("path", "status", "code"), LOOK_UPS, ids=[case[0] for case in LOOK_UPS])
def test_a_question_that_makes_no_sense_is_told_so(phone: Handset, path: str, status: int, code: str) -> None:
    answer = phone.ask("GET", path)
    assert (answer.status, answer.code) == (status, code)


# ---------------------------------------------------------------- afterwards


def test_after_all_this_everything_verifies_and_nothing_unexpected_was_logged(ground: Ground) -> None:
    with Session(ground.engine) as session:
        begin_read(session)
        assert list(verify(session))
        assert session.scalar(select(func.count()).where(Operation.problem.contains('"internal"'))) == 0
    log = ground.server.log.read_text()
    assert "unexpected" not in log
    assert "Traceback" not in log
