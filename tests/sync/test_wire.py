"""What phones send is read strictly, one operation at a time, whatever the bytes; nothing else is ever raised."""

from __future__ import annotations

import copy
import json
import time
import uuid
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from marshmallow import Schema, fields

from sync import wire
from sync.problems import BatchTooLarge, EnvelopeInvalid, EnvelopeProblem, Malformed

ID, OTHER = "0198c1f0-5a3b-7c11-9f00-000000000001", "0198c1f0-5a3b-7c11-9f00-000000000002"
AT = {
    "wall": "2026-11-23T16:00:00+08:00",
    "mono_ms": 1_000,
    "boot": "7",
    "gnss": "2026-11-23T08:00:00Z",
    "anchor": {"server": "2026-11-23T00:00:00Z", "mono_ms": 500},
}
FIX = {"lon": 120.46, "lat": 30.18, "accuracy_m": 12, "crs": "gcj02", "source": "amap", "age_ms": 800, "mock": False}
PHOTO = {"sha256": "ab" * 32, "bytes": 9, "type": "image/jpeg", "role": "before"}
BODIES: dict[str, dict[str, Any]] = {
    "patrol": {"officers": ["officer"], "township": "330109113", "purpose": "早市", "started": AT, "ended": AT},
    "incident": {
        "patrol": OTHER,
        "items": ["DEMO-SR-001"],
        "township": "330109113",
        "event_class": "09001",
        "event_class_edition": "GB/T 47678.5-2026",
        "description": "流动摊贩",
        "measures": ["educate"],
        "designated_place": "DEMO-PLACE-1",
        "vendor": {"id": OTHER, "name": "摊主", "phone": "10000000001", "stall": "水果", "plate": "浙A00000"},
        "parties": [{"name": "某", "role": "摊主", "phone": "10000000001", "id_number": "000"}],
        "no_penalty_reason": "首次",
    },
    "warning": {
        "incident": OTHER,
        "vendor": OTHER,
        "township": "330109113",
        "step": "education",
        "text": "请到指定地点经营",
        "deadline_on": "2026-11-30",
        "response": "acknowledged",
    },
}
TRACK = {"crs": "wgs84", "points": [[120.46, 30.18, 1_000, 5.5], [120.47, 30.18, None, None]]}


def _full(kind: str) -> dict[str, Any]:
    """An operation of this kind with every field that it may have."""
    record, verb = kind.split(".")
    said: dict[str, Any] = {"op": ID, "n": 1, "kind": kind, "record": OTHER, "at": AT}
    if verb == "create":
        said |= {"fix": FIX, "photos": [PHOTO], "body": BODIES[record]}
    elif verb == "amend":
        said |= {"base": 1, "photos": [PHOTO], "set": BODIES[record]}
    else:
        said |= {"reason": "误报"} if verb == "void" else {"body": TRACK}
    return copy.deepcopy(said)


def envelope(*operations: Any, **parts: Any) -> dict[str, Any]:
    return {"batch": ID, "install": OTHER, "app": "3.2.1", "sent": AT, "next_n": 9, "unsent": [[7, 8]]} | {
        "ops": list(operations),
        **parts,
    }


def around(*operations: bytes) -> bytes:
    """The body of a batch with these operations, as they are."""
    head = orjson.dumps(envelope())
    return head.replace(b'"ops":[]', b'"ops":[' + b",".join(operations) + b"]")


def read(raw: bytes) -> list[wire.Operation]:
    """The operations of a body, complete."""
    operations = wire.read_envelope(raw).operations
    for operation in operations:
        wire.complete(operation)
    return operations


def flaws(operation: wire.Operation) -> list[tuple[str, str]]:
    return [(error["pointer"], error["code"]) for error in (operation.problem or {}).get("errors", [])]


# ---------------------------------------------------------------- every field of every shape


@pytest.mark.parametrize("kind", wire.KINDS)
def test_an_operation_with_every_field_is_sound(kind: str) -> None:
    (operation,) = read(orjson.dumps(envelope(_full(kind))))
    assert (operation.problem, operation.kind, str(operation.id)) == (None, kind, ID)


#: What no field of a type may be; `...` stands for "not there".
WRONG_TYPES: list[tuple[type[fields.Field[Any]], list[Any]]] = [
    (wire.Text, [5, 1.5, True, [], {}]),
    (wire.Whole, ["1", 1.0, 1.5, True, [], {}, 2**53, -1, 2**63 - 1]),
    (wire.Real, ["1", True, [], {}, 1e300, -1e300]),
    (wire.Flag, [0, 1, "true", "yes", [], {}]),
    (wire.Uid, [5, True, [], {}, "", "x", ID[:-1], ID.replace("-", ""), "{" + ID + "}", "urn:uuid:" + ID, ID + "\n"]),
    (wire.Instant, [5, True, [], {}, "", "now", "2026-11-23", "2026-11-23T08:00:00", "2026-13-01T00:00:00Z"]),
    (wire.Instant, ["0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-14:00", "2026-11-23T25:00:00Z"]),
    (wire.Day, [5, True, [], {}, "", "2026-02-30", "2026-11-23T00:00:00Z"]),
    (wire.Many, [5, True, "x", {}]),
    (wire.Nested, [5, True, "x", []]),
    (wire.PointField, [5, "x", {}, [], [1, 2, 3], [1, 2, 3, 4, 5], ["1", 2, None, None], [1, None, None, None]]),
    (wire.PointField, [[181, 0, None, None], [0, -91, None, None], [1, 2, -1, None], [1, 2, 2**53, None]]),
    (
        wire.PointField,
        [[1, 2, 1.5, None], [1, 2, None, "5"], [1, 2, None, -1], [True, 2, None, None], [1, 2, None, {}]],
    ),
]


def _wrong_values(field: fields.Field[Any]) -> Iterator[Any]:
    for kind, values in WRONG_TYPES:
        if isinstance(field, kind):
            yield from values
    if isinstance(field, wire.Text):
        yield from ("x" * (field.longest + 1), "x\x00")
        yield from ["", " "] if field.one_of or field.pattern else []
    if isinstance(field, (wire.Whole, wire.Real)):
        yield from (field.least - 1, field.most + 1)
    if isinstance(field, wire.Many):
        yield [None] * (field.longest + 1)
    yield from [None, ...] if field.required else []


def _places(schema: Schema, pointer: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], fields.Field[Any]]]:
    for name, field in schema.fields.items():
        yield from _inside(field, (*pointer, name))


def _inside(field: fields.Field[Any], pointer: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], Any]]:
    yield pointer, field
    if isinstance(field, wire.Many):
        yield from _inside(field.inner, (*pointer, "0"))
    if isinstance(field, wire.Nested):
        yield from _places(field.schema, pointer)


def _with(whole: dict[str, Any], pointer: tuple[str, ...], value: Any) -> dict[str, Any]:
    """A copy in which that place holds another value."""
    made = copy.deepcopy(whole)
    place: Any = made
    for step in pointer[:-1]:
        place = place[int(step) if isinstance(place, list) else step]
    last: Any = int(pointer[-1]) if isinstance(place, list) else pointer[-1]
    assert place[last] is not None, "the example has no such place"
    if value is ...:
        del place[last]
    else:
        place[last] = value
    return made


@pytest.mark.parametrize("kind", wire.KINDS)
def test_whatever_is_wrong_with_a_field_is_told_by_its_pointer(kind: str) -> None:
    full, missed, tried = _full(kind), [], 0
    places = [(p, f) for p, f in _places(wire.KINDS[kind], ()) if p != ("kind",)]
    for pointer, field in places:
        for value in _wrong_values(field):
            if value is ... and (pointer[-1] == "0" or (pointer[0], len(pointer)) == ("set", 2)):
                continue  # a list may be short, an amend sets what it likes
            (operation,) = read(orjson.dumps(envelope(_with(full, pointer, value))))
            tried += 1
            told = [at for at, _ in flaws(operation)]
            if not any(at.startswith("/" + "/".join(pointer)) for at in told):
                missed.append((pointer, value, operation.problem))
    assert missed == []
    assert tried > 20


@pytest.mark.parametrize("kind", wire.KINDS)
def test_a_field_that_is_not_known_is_never_lost_unseen(kind: str) -> None:
    full = _full(kind)
    objects = [()] + [p for p, f in _places(wire.KINDS[kind], ()) if isinstance(f, wire.Nested)]
    for pointer in objects:
        for name in ("surprise", "", "nul\x00", "a/b~c", "长" * 5_000):
            holder = full if not pointer else _at(full, pointer)
            changed = holder | {name: 1}
            whole = changed if not pointer else _with(full, pointer, changed)
            (operation,) = read(orjson.dumps(envelope(whole)))
            assert "unknown-field" in [code for _, code in flaws(operation)], (pointer, name[:20])
            assert len(orjson.dumps(operation.problem)) < 2_000


def _at(whole: Any, pointer: tuple[str, ...]) -> Any:
    for step in pointer:
        whole = whole[int(step) if isinstance(whole, list) else step]
    return whole


PARTICULAR: list[tuple[str, tuple[str, ...], Any, tuple[str, str]]] = [
    ("incident.create", ("at", "wall"), "2026-11-23T08:00:00", ("/at/wall", "naive-time")),
    ("incident.create", ("fix",), {"lon": 30.18, "lat": 120.46}, ("/fix/lat", "swapped")),
    ("incident.create", ("fix",), {"lon": 200, "lat": 95}, ("/fix/lat", "range")),
    ("incident.create", ("fix",), {"lon": "x", "lat": 95}, ("/fix/lat", "range")),
    ("incident.create", ("photos", "0", "sha256"), "AB" * 32, ("/photos/0/sha256", "format")),
    ("incident.create", ("body", "measures"), ["educate", "fine"], ("/body/measures/1", "one-of")),
    ("incident.amend", ("set", "vendor"), {"name": "无编号"}, ("/set/vendor/id", "required")),
    ("incident.amend", ("set", "patrol"), None, ("/set/patrol", "null")),
    ("patrol.amend", ("set", "ended"), {"anchor": {"mono_ms": 1}}, ("/set/ended/anchor/server", "required")),
    ("patrol.create", ("body", "officers"), [], ("/body/officers", "too-short")),
    ("patrol.amend", ("set", "officers"), [], ("/set/officers", "too-short")),
    ("incident.void", ("reason",), " \t\n", ("/reason", "format")),
    ("incident.amend", ("base",), 0, ("/base", "range")),
]


@pytest.mark.parametrize(("kind", "pointer", "value", "flaw"), PARTICULAR)
def test_a_flaw_has_its_code(kind: str, pointer: tuple[str, ...], value: Any, flaw: tuple[str, str]) -> None:
    (operation,) = read(orjson.dumps(envelope(_with(_full(kind), pointer, value))))
    assert flaw in flaws(operation)


def test_flaws_are_listed_until_there_are_enough_of_them() -> None:
    wrong = _with(_full("track.append"), ("body", "points"), [None] * 1_000)
    (operation,) = read(orjson.dumps(envelope(wrong)))
    assert len(flaws(operation)) == wire.MAX_FLAWS


@pytest.mark.parametrize("kind", ["", "patrol", "patrol.delete", "PATROL.CREATE", "patrol.create ", None, 5, [], {}])
def test_a_kind_nobody_knows_waits_for_a_person(kind: Any) -> None:
    (operation,) = read(orjson.dumps(envelope(_full("patrol.create") | {"kind": kind})))
    assert (operation.problem or {})["code"] == "unknown-kind"
    assert (operation.op, operation.n, operation.kind) == (ID, 1, None)


def test_an_operation_too_large_is_kept_as_it_came() -> None:
    full = _with(_full("incident.create"), ("body", "description"), "长" * wire.MAX_OPERATION_BYTES)
    large, good = read(orjson.dumps(envelope(full, _full("incident.create") | {"op": OTHER})))
    assert ((large.problem or {})["code"], large.op, large.n, large.kind) == ("op-too-large", ID, 1, "incident.create")
    assert orjson.loads(large.raw) == full
    assert good.problem is None


# ---------------------------------------------------------------- JSON that can't be kept


SPOILT: list[tuple[str, bytes, str]] = [
    ("NaN", b'"body":NaN', "not-a-number"),
    ("Infinity", b'"body":[Infinity]', "not-a-number"),
    ("-Infinity", b'"body":-Infinity', "not-a-number"),
    ("1e400", b'"body":{"a":1e400}', "number-too-large"),
    ("-1e400", b'"body":-1e400', "number-too-large"),
    ("2**70", b'"body":%d' % 2**70, "number-too-large"),
    ("-2**64", b'"body":%d' % -(2**64), "number-too-large"),
    ("10,000 digits", b'"body":' + b"9" * 10_000, "number-too-large"),
    ("a lone surrogate", b'"body":"\\ud800"', "lone-surrogate"),
    ("a lone surrogate as a key", b'"\\udc00":1', "lone-surrogate"),
    ("a key twice", b'"body":1,"body":1', "duplicate-key"),
    ("a key twice, once escaped", b'"body":1,"\\u0062ody":2', "duplicate-key"),
    ("a key twice inside", b'"body":{"a":{"b":1,"b":1}}', "duplicate-key"),
    ("100,000 brackets", b'"body":' + b"[" * 100_000 + b"]" * 100_000, "too-deep"),
    ("100,000 braces", b'"body":' + b'{"a":' * 100_000 + b"1" + b"}" * 100_000, "too-deep"),
    ("300 brackets", b'"body":' + b"[" * 300 + b"]" * 300, "too-deep"),
    ("not UTF-8", b'"body":"\xff\xfe"', "not-utf-8"),
    ("a raw line break in a string", b'"body":"a\nb"', "syntax"),
    ("a raw NUL in a string", b'"body":"a\x00b"', "syntax"),
    ("a word", b'"body":undefined', "syntax"),
    ("a comma too many", b'"body":1,', "syntax"),
    ("an unknown escape", b'"body":"\\x41"', "syntax"),
    ("a comment", b'"body":1/* one */', "syntax"),
    ("crossed brackets", b'"body":[{]}', "syntax"),
]


@pytest.mark.parametrize(("name", "member", "why"), SPOILT, ids=[name for name, _, _ in SPOILT])
def test_what_can_not_be_kept_as_a_value_is_kept_as_bytes_among_good_neighbours(
    name: str, member: bytes, why: str
) -> None:
    before, after = _full("patrol.create"), _full("incident.create") | {"op": OTHER}
    bad = b'{"op":"%s","n":41,%s}' % (str(uuid.uuid4()).encode(), member)
    first, spoilt, last = read(around(orjson.dumps(before), bad, orjson.dumps(after)))

    assert (first.problem, last.problem) == (None, None)
    assert (spoilt.problem or {})["code"] == "unreadable"
    assert flaws(spoilt) == [("", why)]
    assert (spoilt.raw, spoilt.n, spoilt.op) == (bad, 41, bad[7:43].decode())
    assert _seen(wire.read_again(spoilt.raw)) == _seen(spoilt)


@pytest.mark.parametrize("value", [None, True, 5, 1.5, "x", [], [1], "\\u0000"])
def test_an_operation_that_is_no_object_is_kept_too(value: Any) -> None:
    stray, good = read(orjson.dumps(envelope(value, _full("patrol.create"))))
    assert flaws(stray) == [("", "type")]
    assert stray.id == read(orjson.dumps(envelope(value)))[0].id
    assert good.problem is None


@pytest.mark.parametrize("key", [b'"\\u006fps"', b'"o\\u0070s"', b'"\\u006F\\u0070\\u0073"'])
def test_operations_under_an_escaped_name_are_not_lost(key: bytes) -> None:
    raw = around(orjson.dumps(_full("patrol.create"))).replace(b'"ops"', key)
    assert [operation.problem for operation in read(raw)] == [None]


HIDING = [
    b'{"ops":[{"op":"x"}],"ops":[]}',
    b'{"ops":[],"ops":[{"op":"x"}]}',
    b'{"ops":[],"\\u006fps":[{"op":"x"}]}',
    b'{"ops":[]}{"ops":[1]}',
    b'{"ops":[1]} trailing',
    b'{"ops":[1]',
    b'{"ops":[1}',
    b'{"ops":[1',
    b'{"ops":["',
    b'{"ops":["\\',
    b"{ops:[1]}",
    b"{'ops':[1]}",
    b'\xef\xbb\xbf{"ops":[]}',
    b"",
    b" ",
    b"\x00",
    b"\xff",
    b"nul",
    b'"ops":[1]',
    b'{"ops":[1],"x":NaN}',
    b'{"ops":[1],"x":"\\ud800"}',
    b'{"ops":[1],"x":1e400}',
    b'{"ops":[1],"sent":' + b'{"a":' * 100_000 + b"1" + b"}" * 100_000 + b"}",
    b"[" * 1_000_000,
    b'{"ops":' + b"[" * 1_000_000,
    b'{"a":' * 100_000,
]


@pytest.mark.parametrize("raw", HIDING, ids=lambda raw: repr(raw[:40]))
def test_a_body_that_says_two_things_or_nothing_is_malformed(raw: bytes) -> None:
    with pytest.raises(Malformed):
        wire.read_envelope(raw)


@pytest.mark.parametrize("raw", [b"[]", b"5", b"null", b'"ops"', b'["ops",[1]]', b"{}", b'{"ops":{}}', b'{ "ops": 5 }'])
def test_a_body_without_operations_is_no_envelope(raw: bytes) -> None:
    with pytest.raises(EnvelopeInvalid):
        wire.read_envelope(raw)


@pytest.mark.parametrize("place", ["app", "sent"])
def test_ops_inside_a_string_or_another_object_are_none(place: str) -> None:
    trap = '{"ops":[{"op":1}], \\ " ,"ops":['
    said = envelope(_full("patrol.create"), **{"app": trap} if place == "app" else {})
    said["ops"][0]["body"]["purpose"] = trap
    for raw in (orjson.dumps(said), json.dumps(said, indent=3).encode(), json.dumps(said, sort_keys=True).encode()):
        assert [operation.problem for operation in read(raw)] == [None]
    nested = json.dumps(envelope(sent={"ops": [1, 2]}), indent=1).encode()
    with pytest.raises(EnvelopeInvalid):
        wire.read_envelope(nested)


@pytest.mark.parametrize("space", [b" ", b"\n", b"\r\n", b"\t ", b" \n" * 50])
def test_white_space_changes_nothing(space: bytes) -> None:
    plain = around(orjson.dumps(_full("patrol.create")), orjson.dumps(_full("incident.create") | {"op": OTHER}))
    spaced = space.join([b"", plain.replace(b'"ops":[', b'"ops"' + space + b":" + space + b"[" + space), b""])
    assert [o.fingerprint for o in read(spaced)] == [o.fingerprint for o in read(plain)]
    assert [o.raw for o in read(spaced)] == [o.raw for o in read(plain)]


@pytest.mark.parametrize(
    "raw",
    [
        b'{"ops":["' + b'\\"' * 2_000_000,
        b'{"ops":[' + b'"",' * 1_500_000 + b"1]}",
        b'{ "ops":[' + b"1," * 1_000_000 + b"1]}",
        b'{"ops":[' + b"1," * 2_000_000 + b"1]}",
        b'{"ops":[' + b'"' * 4_000_000,
        b'{"ops":[' + b"9" * 4_000_000 + b"]}",
        b'{"next_n":' + b"9" * 4_000_000 + b',"ops":[]}',
    ],
    ids=lambda raw: repr(raw[:20]),
)
def test_no_body_keeps_the_server_busy(raw: bytes) -> None:
    started = time.monotonic()
    with suppress(EnvelopeProblem):
        wire.read_envelope(raw)
    assert time.monotonic() - started < 5


def test_too_many_operations_are_sent_back() -> None:
    with pytest.raises(BatchTooLarge):
        wire.read_envelope(orjson.dumps(envelope(1, 2, 3)), most_operations=2)
    assert len(wire.read_envelope(orjson.dumps(envelope(1, 2)), most_operations=2).operations) == 2


# ---------------------------------------------------------------- properties


_json = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)
_names = st.sampled_from(["op", "n", "kind", "record", "at", "fix", "photos", "body", "base", "set", "reason", "ops"])
_operation = (
    st.sampled_from([_full(kind) for kind in wire.KINDS]).flatmap(
        lambda full: st.dictionaries(_names, _json, max_size=3).map(lambda parts: full | parts)
    )
    | _json
)
_written = st.sampled_from(
    [
        {"ensure_ascii": True},
        {"ensure_ascii": False},
        {"indent": 2},
        {"separators": (" ,\n", "\t: ")},
        {"ensure_ascii": False, "separators": (",", ":")},
    ]
)


_SEEN = ("fingerprint", "id", "op", "n", "kind", "record", "problem", "at", "fix", "photos", "fields", "base", "reason")


def _seen(operation: wire.Operation) -> list[Any]:
    """Everything but the bytes and the value they were read to."""
    return [getattr(operation, name) for name in _SEEN]


@settings(max_examples=300, deadline=None)
@given(st.lists(_operation, max_size=4), _written)
def test_however_a_batch_is_written_the_same_is_read(operations: list[Any], how: dict[str, Any]) -> None:
    said = envelope(*operations)
    plain, written = read(orjson.dumps(said)), read(json.dumps(said, **how).encode())
    assert [_seen(operation) for operation in written] == [_seen(operation) for operation in plain]
    assert [orjson.loads(operation.raw) for operation in written] == operations
    for operation in [*plain, *written]:
        assert _seen(wire.read_again(operation.raw)) == _seen(operation)
        assert wire.recognise_again(operation.raw).fingerprint == operation.fingerprint


def _must_be_taken_or_refused(raw: bytes) -> None:
    """Whatever the bytes, there is a batch that can be kept and read again, or a problem that says why not."""
    try:
        operations = read(raw)
    except EnvelopeProblem as problem:
        orjson.dumps(problem.details)
        return
    for operation in operations:
        orjson.dumps(operation.problem)
        assert operation.problem is not None or operation.kind is not None
        assert wire.recognise_again(operation.raw).fingerprint == operation.fingerprint
        assert _seen(wire.read_again(operation.raw)) == _seen(operation)


@settings(max_examples=300, deadline=None)
@given(st.binary() | st.text(alphabet='{}[]",:\\ ops0e-.ntrufalse\x00').map(str.encode))
def test_no_bytes_at_all_raise_anything_but_an_envelope_problem(raw: bytes) -> None:
    _must_be_taken_or_refused(raw)
    _must_be_taken_or_refused(around(raw))
    _must_be_taken_or_refused(around(orjson.dumps(_full("patrol.create")), raw))


_SPOILING = [
    b"",
    b'"',
    b"\\",
    b"[",
    b"]",
    b"{",
    b"}",
    b",",
    b":",
    b"NaN",
    b"1e999",
    b"-",
    b"\x00",
    b"\xff",
    b"null",
    b" ",
]
_SPOILING += [b"\\ud800", b"9" * 30, b'"ops":[', b"18446744073709551615", b"-0", b"-0.0"]


@settings(max_examples=500, deadline=None)
@given(st.data())
def test_a_batch_damaged_anywhere_is_taken_or_refused(data: st.DataObject) -> None:
    raw = json.dumps(
        envelope(*(_full(kind) for kind in data.draw(st.lists(st.sampled_from(list(wire.KINDS)), max_size=3)))),
        **data.draw(_written),
    ).encode()
    for _ in range(data.draw(st.integers(1, 3))):
        start = data.draw(st.integers(0, len(raw)))
        end = min(len(raw), start + data.draw(st.integers(0, 5)))
        raw = raw[:start] + data.draw(st.sampled_from(_SPOILING)) + raw[end:]
    _must_be_taken_or_refused(raw)
