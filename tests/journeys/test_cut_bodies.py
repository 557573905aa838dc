"""A body that was cut, or came in pieces, under the servers that are used in earnest: all of it, or none."""

from __future__ import annotations

import gzip
import hashlib
import socket
import time
from contextlib import closing, suppress
from typing import Any

import orjson
import pytest

from tests.journeys.ground import BATCHES, UPLOADS, Ground, Handset
from tests.sync.days import batch, incident, outcomes, patrol

pytestmark = pytest.mark.parametrize(
    "ground", ["gunicorn on postgresql", "waitress on sqlite"], indirect=True, scope="module"
)
WAIT_S = 30.0
#: What waitress does with a request that does not come to its end.
HUNG_UP = (None, None)


@pytest.fixture(scope="module")
def phone(ground: Ground) -> Handset:
    return ground.handset()


def told(phone: Handset, method: str, path: str, pieces: list[bytes], *, rest_s: float = 0, **headers: object) -> Any:
    """(status, JSON) of the answer to a request whose body is these pieces and no more; (None, {}) if none came."""
    head = f"{method} {path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {phone.token}\r\n"
    head += "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in headers.items())
    answer = b""
    with closing(socket.create_connection(("127.0.0.1", phone.port), WAIT_S)) as line, suppress(ConnectionError):
        line.sendall(f"{head}Content-Type: application/json\r\nConnection: close\r\n\r\n".encode())
        for piece in pieces:
            line.sendall(piece)
            time.sleep(rest_s)
        with suppress(OSError):  # the server may have hung up by now, and its answer can still be read
            line.shutdown(socket.SHUT_WR)
        while piece := line.recv(65_536):
            answer += piece
    if not answer:
        return None, {}
    head_said, _, content = answer.partition(b"\r\n\r\n")
    return int(head_said.split()[1]), orjson.loads(content) if b"json" in head_said.lower() else {}


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(data), data)


#: How much of the body is sent, and what is sent instead of the whole. White space at the end makes a cut body whole
#: JSON: only counting tells.
CUTS = [
    ("nothing", lambda body: b""),
    ("one byte", lambda body: body[:1]),
    ("half", lambda body: body[: len(body) // 2]),
    ("all but one byte", lambda body: body[:-1]),
    ("all but the white space", lambda body: body.rstrip()),
]


@pytest.mark.parametrize(("name", "cut"), CUTS, ids=[case[0] for case in CUTS])
def test_a_batch_cut_on_its_way_stores_nothing_and_can_be_sent_again(
    ground: Ground, phone: Handset, name: str, cut: Any
) -> None:
    out = patrol()
    day = batch(phone.who, out, incident(out))
    whole = orjson.dumps(day) + b" " * 5_000
    status, said = told(phone, "POST", BATCHES, [cut(whole)], Content_Length=len(whole))
    assert (status, said.get("code")) in ((400, "body-truncated"), HUNG_UP)
    assert ground.stored(*day["ops"]) == []

    receipt = phone.push(whole).json
    assert outcomes(receipt) == ["applied", "applied"]
    assert [result["replayed"] for result in receipt["results"]] == [False, False]


def test_a_line_that_dies_stores_nothing(ground: Ground, phone: Handset) -> None:
    day = batch(phone.who, patrol())
    whole = orjson.dumps(day) + b" " * 200_000
    with closing(socket.create_connection(("127.0.0.1", phone.port), WAIT_S)) as line:
        head = f"POST {BATCHES} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {phone.token}\r\n"
        line.sendall(f"{head}Content-Length: {len(whole)}\r\n\r\n".encode() + whole[:100_000])
        line.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\x00\x00\x00\x00\x00\x00\x00")  # as a reset
    assert ground.stored(*day["ops"]) == []
    assert outcomes(phone.push(whole).json) == ["applied"]


def test_a_packed_batch_cut_on_its_way_stores_nothing(ground: Ground, phone: Handset) -> None:
    day = batch(phone.who, patrol())
    packed = gzip.compress(orjson.dumps(day))
    for cut in (packed[:-1], packed[: len(packed) // 2]):
        sent = {"Content_Encoding": "gzip"}
        assert told(phone, "POST", BATCHES, [cut], Content_Length=len(packed), **sent)[0] in (400, None)
        status, said = told(phone, "POST", BATCHES, [cut], Content_Length=len(cut), **sent)
        assert (status, said["code"]) == (400, "body-truncated")
    assert ground.stored(*day["ops"]) == []
    assert outcomes(phone.push(packed, content_encoding="gzip").json) == ["applied"]


def test_a_batch_in_slow_pieces_is_taken(phone: Handset) -> None:
    whole = orjson.dumps(batch(phone.who, patrol()))
    pieces = [whole[:10], whole[10:200], whole[200:]]
    status, said = told(phone, "POST", BATCHES, pieces, rest_s=0.2, Content_Length=len(whole))
    assert (status, outcomes(said)) == (200, ["applied"])


def test_a_batch_without_a_length_is_taken_in_chunks(phone: Handset) -> None:
    whole = orjson.dumps(batch(phone.who, patrol()))
    chunks = [chunk(whole[:7]), chunk(whole[7:]), b"0\r\n\r\n"]
    status, said = told(phone, "POST", BATCHES, chunks, Transfer_Encoding="chunked")
    assert (status, outcomes(said)) == (200, ["applied"])


@pytest.mark.parametrize("after", [b"", b"20\r\n", b"20\r\n{}", b"ffffffffff\r\n", b"nonsense\r\n"])
def test_chunks_that_end_too_early_store_nothing(ground: Ground, phone: Handset, after: bytes) -> None:
    day = batch(phone.who, patrol())
    status, _ = told(phone, "POST", BATCHES, [chunk(orjson.dumps(day)), after], Transfer_Encoding="chunked")
    assert status in (None, 400)
    assert ground.stored(*day["ops"]) == []
    assert outcomes(phone.push(day).json) == ["applied"]


def test_chunks_without_end_are_refused(ground: Ground, phone: Handset) -> None:
    day = batch(phone.who, patrol())
    whole = orjson.dumps(day) + b" " * (8 * 1024 * 1024)
    status, said = told(phone, "POST", BATCHES, [chunk(whole), b"0\r\n\r\n"], Transfer_Encoding="chunked")
    assert (status, said.get("code")) == (413, "batch-too-large")
    assert ground.stored(*day["ops"]) == []


def test_no_body_at_all_is_malformed(phone: Handset) -> None:
    for headers in ({"Content_Length": 0}, {}):
        status, said = told(phone, "POST", BATCHES, [], **headers)
        assert (status, said["code"]) == (400, "malformed")


@pytest.mark.parametrize("length", ["-1", "x", "1e3", "10, 20", ""])
def test_a_length_that_is_none_is_refused(ground: Ground, phone: Handset, length: str) -> None:
    day = batch(phone.who, patrol())
    status, _ = told(phone, "POST", BATCHES, [orjson.dumps(day)], Content_Length=length)
    assert status is None or 400 <= status < 500
    assert ground.stored(*day["ops"]) == []


def test_a_photo_cut_on_its_way_is_not_kept_and_can_be_sent_again(ground: Ground, phone: Handset) -> None:
    picture = bytes(range(256)) * 1_000
    name = hashlib.sha256(picture).hexdigest()
    for part in (b"", picture[:1], picture[:-1]):
        status, said = told(phone, "PUT", f"{UPLOADS}/{name}", [part], Content_Length=len(picture))
        assert (status, said.get("code")) in ((400, "body-truncated"), HUNG_UP)
    assert [path for path in (ground.folder / "photos").rglob("*") if path.is_file()] == []
    assert phone.ask("PUT", f"{UPLOADS}/{name}", picture).json == {"sha256": name, "bytes": len(picture)}


def test_nothing_unexpected_was_logged(ground: Ground) -> None:
    log = ground.server.log.read_text()
    assert "unexpected" not in log
    assert "Traceback" not in log
