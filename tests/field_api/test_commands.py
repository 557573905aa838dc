"""What an operator types, on both databases, as a shell would run it."""

from __future__ import annotations

import datetime as dt
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import Result
from flask import Flask
from sqlalchemy import func, select, text
from sqlalchemy.orm import Session

from field_api.settings import SettingsInvalid
from sync import accounts
from sync.models import Account, Head, Installation, Link, Posting, Township, begin_write
from tests.builders import GUALI, YINONG, make_signed_in, make_townships
from tests.demo import demo_list

PASSWORD = "correct horse battery"
WANG = ("add-account", "wang", "--role", "officer", "--name", "王", "--password-stdin")

Run = Callable[..., Result]


@pytest.fixture
def run(make_app: Callable[..., Flask]) -> Run:
    """Runs one command; what it is told on standard input is `stdin`."""
    runner = make_app().test_cli_runner()

    def invoke(*args: str, stdin: str = "") -> Result:
        return runner.invoke(args=args, input=stdin)

    return invoke


@pytest.fixture
def townships(session: Session) -> None:
    begin_write(session)
    make_townships(session)
    session.commit()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return Path(shutil.copytree(demo_list.REFERENCE, tmp_path / "reference"))


def refused(result: Result, *, because: str) -> None:
    assert because in result.output
    assert result.exit_code == 1
    assert isinstance(result.exception, SystemExit), "told, not raised"


# ---------------------------------------------------------------- the database and its lists


def test_migrating_makes_the_tables_and_starts_the_journal_once(make_app: Callable[..., Flask], tmp_path: Path) -> None:
    runner = make_app(database_url=f"sqlite:///{tmp_path / 'new' / 'field.sqlite'}").test_cli_runner()
    refused(runner.invoke(args=["verify"]), because="run migrate-database first")
    assert runner.invoke(args=["migrate-database"]).exit_code == 0
    first = runner.invoke(args=["verify"])
    assert runner.invoke(args=["migrate-database"]).exit_code == 0
    assert runner.invoke(args=["verify"]).output == first.output == f"0:{'00' * 32}\n"


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_a_database_that_is_away_is_told_in_one_line(make_app: Callable[..., Flask]) -> None:
    app = make_app(database_url="postgresql+psycopg://nobody@127.0.0.1:1/none")
    refused(app.test_cli_runner().invoke(args=["verify"]), because="busy: the database is busy or away")


def test_a_dry_run_shows_the_counts_and_loads_nothing(run: Run, session: Session, folder: Path) -> None:
    result = run("load-reference", str(folder), "--dry-run")
    assert result.exit_code == 0
    assert ["townships.csv", "27", "0", "0"] in [line.split() for line in result.output.splitlines()]
    assert session.scalar(select(func.count()).select_from(Township)) == 0


def test_a_folder_loads_once(run: Run, session: Session, folder: Path) -> None:
    assert run("load-reference", str(folder)).output.endswith("Loaded.\n")
    assert session.scalar(select(func.count()).select_from(Township)) == 27
    session.rollback()
    again = run("load-reference", str(folder))
    assert again.output.endswith("Nothing to change.\n")
    assert ["townships.csv", "0", "0", "27"] in [line.split() for line in again.output.splitlines()]
    assert session.scalar(select(Head.number)) == 1


def test_faults_are_told_by_file_and_line_and_nothing_is_loaded(run: Run, session: Session, folder: Path) -> None:
    with (folder / "townships.csv").open("a", encoding="utf-8") as file:
        file.write("330109999,新,镇,,2022/01/01,,\n")
    result = run("load-reference", str(folder))
    refused(result, because="townships.csv:29: bad-date Not a day")
    assert session.scalar(select(func.count()).select_from(Township)) == 0


# ---------------------------------------------------------------- accounts


@pytest.mark.usefixtures("townships")
def test_an_account_has_postings_and_a_card_with_their_days(run: Run, session: Session) -> None:
    given = ["--township", GUALI, "--township", YINONG, "--from", "2026-01-01", "--until", "2026-12-31"]
    card = ["--card-number", "DEMO-7", "--card-from", "2025-01-01", "--card-until", "2028-12-31"]
    result = run(*WANG, *given, *card, stdin=f"{PASSWORD}\n")
    assert (result.exit_code, result.output) == (0, "wang can sign in.\n")
    account = session.scalars(select(Account)).one()
    assert (account.username, account.full_name, account.role) == ("wang", "王", "officer")
    assert (account.card_number, account.card_from_on) == ("DEMO-7", dt.date(2025, 1, 1))
    assert account.card_until_on == dt.date(2028, 12, 31)
    postings = session.execute(select(Posting.township_code, Posting.from_on, Posting.until_on))
    days = (dt.date(2026, 1, 1), dt.date(2026, 12, 31))
    assert {tuple(row) for row in postings} == {(GUALI, *days), (YINONG, *days)}
    accounts.HASHER.verify(account.password_hash, PASSWORD)


def test_a_password_that_is_asked_for_has_to_be_typed_twice_and_is_never_shown(run: Run, session: Session) -> None:
    result = run(*WANG[:-1], stdin=f"{PASSWORD}\nsomething else\n{PASSWORD}\n{PASSWORD}\n")
    assert result.exit_code == 0
    assert PASSWORD not in result.output
    accounts.HASHER.verify(session.scalars(select(Account.password_hash)).one(), PASSWORD)


@pytest.mark.parametrize(
    ("more", "stdin", "because"),
    [
        ([], "short\n", "at least 8 characters"),
        ([], "", "at least 8 characters"),
        (["--township", "330109999"], f"{PASSWORD}\n", "330109999"),
        (["--from", "2026-02-01", "--until", "2026-01-31"], f"{PASSWORD}\n", "is before"),
        (["--card-from", "2026-02-01", "--card-until", "2026-01-31"], f"{PASSWORD}\n", "is before"),
    ],
)
def test_an_account_that_makes_no_sense_is_refused(
    run: Run, session: Session, more: list[str], stdin: str, because: str
) -> None:
    refused(run(*WANG, *more, stdin=stdin), because=because)
    assert session.scalar(select(func.count()).select_from(Account)) == 0


@pytest.mark.parametrize("more", [["--from", "01.02.2026"], ["--role", "chief"]])
def test_an_option_that_makes_no_sense_is_explained(run: Run, more: list[str]) -> None:
    assert run(*WANG, *more, stdin=f"{PASSWORD}\n").exit_code == 2


def test_no_command_takes_a_password_as_an_argument(make_app: Callable[..., Flask]) -> None:
    for command in make_app().cli.commands.values():
        for param in command.params:
            if "password" in (param.name or ""):
                pytest.fail(f"{command.name} takes {param.name}")


def test_an_account_gets_another_password(run: Run, session: Session) -> None:
    run(*WANG, stdin=f"{PASSWORD}\n")
    assert run("set-password", "wang", "--password-stdin", stdin="another password\r\n").exit_code == 0
    accounts.HASHER.verify(session.scalars(select(Account.password_hash)).one(), "another password")


def test_an_account_is_disabled(run: Run, session: Session) -> None:
    run(*WANG, stdin=f"{PASSWORD}\n")
    assert run("disable-account", "wang").exit_code == 0
    assert session.scalars(select(Account.disabled_at)).one() is not None


def test_an_installation_is_revoked(run: Run, session: Session, townships: None) -> None:
    begin_write(session)
    who = make_signed_in(session)
    session.commit()
    assert run("revoke-installation", str(who.install_id)).exit_code == 0
    assert session.scalars(select(Installation.revoked_at)).one() is not None


@pytest.mark.parametrize(
    "command",
    [
        ["set-password", "nobody", "--password-stdin"],
        ["disable-account", "nobody"],
        ["revoke-installation", "0b5c1d52-6d7e-4c59-9c5b-3f4d1f6f0a01"],
    ],
)
def test_what_does_not_exist_is_told(run: Run, command: list[str]) -> None:
    refused(run(*command, stdin=f"{PASSWORD}\n"), because="not-found")


# ---------------------------------------------------------------- evidence


def test_verifying_prints_the_head_and_finds_it_again(run: Run, folder: Path) -> None:
    run("load-reference", str(folder))
    result = run("verify")
    assert result.exit_code == 0
    assert "1 of 1 links" in result.stderr
    head = result.stdout.strip()
    assert head.startswith("1:")
    assert run("verify", "--head", head).exit_code == 0
    refused(run("verify", "--head", f"1:{'00' * 32}"), because="The evidence was changed: link 1:")
    refused(run("verify", "--head", f"2:{'00' * 32}"), because="link 2: is gone")
    assert run("verify", "--head", "nonsense").exit_code == 2


def test_verifying_names_the_first_link_that_was_changed(run: Run, session: Session, folder: Path) -> None:
    run("load-reference", str(folder))
    begin_write(session)
    session.execute(text(f"UPDATE {Link.__tablename__} SET hash = :hash"), {"hash": bytes(32)})
    session.commit()
    refused(run("verify"), because="The evidence was changed: link 1:")


def test_weights_are_learned_and_everything_is_compared_anew(make_app: Callable[..., Flask], tmp_path: Path) -> None:
    app, file = make_app(), tmp_path / "weights.json"
    told = app.test_cli_runner().invoke(args=["estimate-likeness", "--write", str(file)])
    assert (told.exit_code, told.stdout) == (0, "Nobody has judged any pair yet: nothing was learned.\n")
    again = make_app(likeness_file=str(file)).test_cli_runner().invoke(args=["resemble"])
    assert (again.exit_code, again.stdout) == (0, "Everything that was there has been compared.\n")
    assert "0 of 0 records" in again.stderr


def test_a_table_of_weights_that_can_not_be_read_stops_the_start(
    make_app: Callable[..., Flask], tmp_path: Path
) -> None:
    (tmp_path / "weights.json").write_text('{"version": 1}')
    for file in (tmp_path / "weights.json", tmp_path / "nowhere.json", tmp_path):
        with pytest.raises(SettingsInvalid, match="FIELD_API_LIKENESS_FILE"):
            make_app(likeness_file=str(file))
