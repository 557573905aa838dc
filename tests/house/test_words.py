"""One word per thing, a promise for every code, a guard on every route."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from field_api.app import create_app
from field_api.settings import Settings
from sync.models import ROLES
from sync.problems import NOTES, QUARANTINE, Problem
from tests.house.source import FOLDERS, ROOT, texts

PROTOCOL = ROOT / "sync" / "PROTOCOL.md"
#: Names that say nothing of what is inside.
EMPTY_NAMES = {"utils", "util", "helpers", "common", "services", "core", "base", "manager", "misc"}
#: Of the machine it was written on, or nobody's to know.
NOT_TO_BE_TOLD = re.compile(
    r"/(?:tmp|work|root|home)/\w|-----BEGIN [A-Z ]*PRIVATE KEY|\beyJ[\w-]{20,}\.eyJ|\bAKIA\w{16}"
)


def leaves(kind: type[Problem] = Problem) -> Iterator[type[Problem]]:
    """Every problem that can be raised, those of the door included."""
    below = kind.__subclasses__()
    for leaf in below:
        yield from leaves(leaf)
    if not below:
        yield kind


TITLES = {leaf.code: leaf.title for leaf in leaves()} | QUARANTINE | NOTES


def test_every_problem_has_a_code_of_its_own() -> None:
    codes = [leaf.code for leaf in leaves()]
    assert len(codes) == len(set(codes))
    assert Problem.code not in codes


@pytest.mark.parametrize("code", sorted(TITLES))
def test_every_code_is_told_in_both_languages(code: str) -> None:
    english, chinese = TITLES[code]
    assert re.fullmatch(r"[a-z]+(-[a-z]+)*", code)
    assert english.isascii()
    assert english.strip()
    assert re.search(r"[\u4e00-\u9fff]", chinese)


@pytest.mark.skipif(not PROTOCOL.exists(), reason="sync/PROTOCOL.md is yet to be written")
@pytest.mark.parametrize("code", sorted(TITLES))
def test_every_code_stands_in_the_protocol(code: str) -> None:
    assert f"`{code}`" in PROTOCOL.read_text("utf-8")


def test_every_route_names_its_roles(tmp_path: Path) -> None:
    settings = Settings(
        secret="only-for-tests-" * 3, database_url=f"sqlite:///{tmp_path / 'none'}", store_folder=tmp_path / "photos"
    )
    views = create_app(settings).view_functions
    assert len(views) > 5
    roles = {name: set(getattr(view, "roles", ())) for name, view in views.items()}
    assert {name for name, named in roles.items() if not named} == set()
    assert set().union(*roles.values()) <= {*ROLES, "anyone"}


def test_no_file_has_a_name_that_says_nothing() -> None:
    named = [path.relative_to(ROOT) for folder in FOLDERS for path in (ROOT / folder).rglob("*.*")]
    assert [path for path in named if path.stem.lower() in EMPTY_NAMES] == []


def test_no_file_tells_of_the_machine_or_of_a_secret() -> None:
    told = {str(path): found.group() for path, text in texts() if (found := NOT_TO_BE_TOLD.search(text))}
    assert told == {}
