"""What `sync/PROTOCOL.md` shows is what happens: its commands are run in their order, against a server that is real."""

from __future__ import annotations

import datetime as dt
import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from tests.demo.instance import set_up
from tests.journeys.serving import REPOSITORY, serving

PROTOCOL = (REPOSITORY / "sync" / "PROTOCOL.md").read_text("utf-8")
PASSWORD = "a password for examples"
#: What is another at every run: only that it is there, and of what type, can be compared.
VARYING = frozenset({"access_token", "refresh_token", "request_id", "card_until_on", "offset_ms", "error_ms", "off_ms"})
INSTANTS = frozenset({"server_time", "received_at", "at"})
#: curl tells the status on stderr, so that commands can be shown as they are typed.
CURLRC = 'silent\nshow-error\nwrite-out = "%{stderr}%{http_code}"\n'

pytestmark = pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")


class Example(NamedTuple):
    """Commands of the page, and the answer shown below them; `None` where none is."""

    commands: str
    shown: Any


class Ran(NamedTuple):
    """What commands came to: the status and the JSON that were answered, and what the shell had to say."""

    status: int
    answer: Any
    said: str


def _examples() -> list[Example]:
    fences = re.findall(r"^```(sh|json)\n(.*?)^```$", PROTOCOL, re.MULTILINE | re.DOTALL)
    followed = zip(fences, [*fences[1:], ("sh", "")], strict=True)
    return [
        Example(text, json.loads(below) if below_is == "json" else None)
        for (kind, text), (below_is, below) in followed
        if kind == "sh"
    ]


EXAMPLES = _examples()


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Ran]]:
    """All examples of the page, run one after the other on a fresh server with the demo's lists and accounts."""
    folder = tmp_path_factory.mktemp("examples")
    (folder / ".curlrc").write_text(CURLRC)
    url = f"sqlite:///{folder / 'field.sqlite'}"
    set_up(url, PASSWORD)
    with serving("waitress", url, folder) as server:
        env = os.environ | {"SERVER": server, "PASSWORD": PASSWORD, "CURL_HOME": str(folder), "NO_PROXY": "*"}
        yield [_run(example.commands, folder, env) for example in EXAMPLES]


def _run(commands: str, folder: Path, env: dict[str, str]) -> Ran:
    """What the commands came to; the tokens answered, if any, are those of the next."""
    done = subprocess.run(["sh", "-ec", commands], cwd=folder, env=env, capture_output=True, text=True, check=False)
    answer = json.loads(done.stdout) if done.stdout else None
    if isinstance(answer, dict):
        env |= {name.upper(): answer[name] for name in ("access_token", "refresh_token") if name in answer}
    return Ran(int(done.stderr[-3:] or 0), answer, done.stderr)


def test_the_page_has_examples() -> None:
    assert len(EXAMPLES) >= 10


@pytest.mark.parametrize("number", range(len(EXAMPLES)))
def test_an_example_answers_what_the_page_shows(ran: list[Ran], number: int) -> None:
    shown, (status, answer, said) = EXAMPLES[number].shown, ran[number]
    if shown is None:
        assert 200 <= status < 300, said
    else:
        assert status == shown.get("status", 200), said
        assert _comparable(answer) == _comparable(shown)


def _comparable(value: Any, name: str = "") -> Any:
    """The value with all that is another at every run replaced by what stays the same about it."""
    if isinstance(value, dict):
        return {each: _comparable(inner, each) for each, inner in value.items()}
    if isinstance(value, list):
        return [_comparable(inner) for inner in value]
    if name in INSTANTS:
        return dt.datetime.fromisoformat(value).utcoffset()
    return type(value) if name in VARYING else value


def test_another_answer_than_shown_is_noticed() -> None:
    shown = {"received_at": "2026-11-23T08:15:00Z", "results": [{"outcome": "held", "off_ms": 1}]}
    same = {"received_at": "2027-01-01T00:00:00.5Z", "results": [{"outcome": "held", "off_ms": 2}]}
    assert _comparable(same) == _comparable(shown)
    for other in ({"outcome": "applied", "off_ms": 1}, {"outcome": "held"}, {"outcome": "held", "off_ms": None}):
        assert _comparable(shown | {"results": [other]}) != _comparable(shown)
