"""What an operator does from a shell: `flask --app wsgi --help`.

What the operator can put right is told in one line (a folder's faults: one each), with exit status 1. Passwords are
asked for or read from standard input: an argument could be seen by everyone on the machine.
"""

from __future__ import annotations

import csv
import datetime as dt
import sys
import uuid
from collections import Counter
from collections.abc import Callable, Iterator
from functools import wraps
from itertools import chain
from pathlib import Path
from typing import Any

import click
import orjson
from flask import Flask, current_app
from flask.cli import with_appcontext
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session

import migrations
from field_api.database import db
from field_api.storage import store
from field_api.yardstick import yardstick
from sync import access_log, accounts, evidence, inventory, journal, learning, reappraisal, reference
from sync.clock import LOCAL_ZONE
from sync.fellegi_sunter import written
from sync.models import ROLES, begin_read, begin_write, is_busy
from sync.problems import Problem
from sync.store import part_key

#: After how many links `verify` says how far it is.
LINKS_PER_LINE = 1_000
#: After how many records `resemble` says how far it is.
RECORDS_PER_LINE = 5_000

COMMANDS: list[click.Command] = []


def register(app: Flask) -> None:
    """The app has all the commands."""
    for command in COMMANDS:
        app.cli.add_command(command)


def _command(name: str) -> Callable[[Callable[..., None]], click.Command]:
    """A command inside the app, for which a Problem is nothing unexpected."""

    def decorate(function: Callable[..., None]) -> click.Command:
        @wraps(function)
        def run(**given: Any) -> None:
            try:
                function(**given)
            except Problem as problem:
                raise click.ClickException(f"{problem.code}: {problem}") from None
            except SQLAlchemyError as error:
                if not is_busy(error):
                    raise
                raise click.ClickException("busy: the database is busy or away, try again") from error

        command = click.command(name)(with_appcontext(run))
        COMMANDS.append(command)
        return command

    return decorate


class Day(click.ParamType[dt.date]):
    """A day as YYYY-MM-DD."""

    name = "YYYY-MM-DD"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> dt.date:
        try:
            return dt.date.fromisoformat(value)
        except ValueError:
            self.fail(f"{value!r} is not a day as YYYY-MM-DD", param, ctx)


class ChainHead(click.ParamType[evidence.HeadOfChain]):
    """A head as `verify` prints it."""

    name = "NUMBER:HASH"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> evidence.HeadOfChain:
        number, _, digest = value.partition(":")
        try:
            return evidence.HeadOfChain(int(number), bytes.fromhex(digest))
        except ValueError:
            self.fail(f"{value!r} is not a head as verify prints it", param, ctx)


def _password(from_stdin: bool) -> str:
    if from_stdin:
        return sys.stdin.readline().rstrip("\r\n")
    password: str = click.prompt("Password", type=str, hide_input=True, confirmation_prompt=True)
    return password


def _now() -> dt.datetime:
    return dt.datetime.now(dt.UTC)


def _begun(begin: Callable[[Session], None]) -> Session:
    """A session whose transaction has begun like this, on a database that has its tables."""
    session = db.session()
    begin(session)
    if not migrations.is_current(session.connection()):
        raise click.ClickException("the database has no tables of this version: run migrate-database first")
    return session


password_stdin = click.option(
    "--password-stdin", "from_stdin", is_flag=True, help="Read the password from standard input, one line."
)


# ---------------------------------------------------------------- the database and its lists


@_command("migrate-database")
def migrate_database() -> None:
    """Bring the database to the tables of this version; what it holds stays."""
    migrations.upgrade(current_app.extensions["settings"].database_url)
    session = _begun(begin_write)
    journal.start(session)
    session.commit()
    click.echo("The database has the tables of this version.")


@_command("load-reference")
@click.argument("folder", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--dry-run", is_flag=True, help="Only say what would change.")
def load_reference(folder: Path, dry_run: bool) -> None:
    """Load townships, items and other lists from a FOLDER of CSV and GeoJSON files, all or nothing."""
    read = reference.read(folder)
    _tell(reference.plan(_begun(begin_read), read))
    db.session.rollback()
    if dry_run:
        return
    done = reference.load(_begun(begin_write), read, now=_now())
    db.session.commit()
    click.echo("Loaded." if done.changes_something else "Nothing to change.")


def _tell(planned: reference.Plan) -> None:
    """The plan is on the screen. Raises ClickException if anything forbids it."""
    click.echo(f"{'':26}{'added':>10}{'changed':>10}{'unchanged':>10}")
    for file, counts in planned.counts.items():
        click.echo(f"{file:26}{counts.added:>10}{counts.changed:>10}{counts.unchanged:>10}")
    for fault in planned.faults:
        click.echo(fault, err=True)
    if planned.faults:
        raise click.ClickException(f"{len(planned.faults)} faults; nothing was loaded")


# ---------------------------------------------------------------- accounts


@_command("add-account")
@click.argument("username")
@click.option("--role", required=True, type=click.Choice(ROLES))
@click.option("--name", "full_name", required=True, help="The person's name.")
@click.option("--township", "townships", multiple=True, metavar="CODE", help="Posted to; can be given several times.")
@click.option("--from", "from_on", type=Day(), help="First day of the posting; today if not given.")
@click.option("--until", "until_on", type=Day(), help="Last day of the posting.")
@click.option("--card-number", help="The officer's card (执法证).")
@click.option("--card-from", "card_from_on", type=Day())
@click.option("--card-until", "card_until_on", type=Day())
@password_stdin
def add_account(username: str, from_stdin: bool, **given: Any) -> None:
    """Add an account that can sign in as USERNAME."""
    password = _password(from_stdin)
    account = accounts.add(_begun(begin_write), username, password, now=_now(), **given)
    added = account.username
    db.session.commit()
    click.echo(f"{added} can sign in.")


@_command("set-password")
@click.argument("username")
@password_stdin
def set_password(username: str, from_stdin: bool) -> None:
    """Give USERNAME another password; every phone has to sign in again."""
    password = _password(from_stdin)
    accounts.set_password(_begun(begin_write), username, password, now=_now())
    db.session.commit()
    click.echo(f"{username} has another password and has to sign in again.")


@_command("disable-account")
@click.argument("username")
def disable_account(username: str) -> None:
    """Let USERNAME do nothing any more, from the next request on. What was recorded stays."""
    accounts.disable(_begun(begin_write), username, now=_now())
    db.session.commit()
    click.echo(f"{username} is disabled.")


@_command("revoke-installation")
@click.argument("install_id", type=click.UUID)
def revoke_installation(install_id: uuid.UUID) -> None:
    """Let a lost phone do nothing any more, whoever signs in on it."""
    accounts.revoke_installation(_begun(begin_write), install_id, now=_now())
    db.session.commit()
    click.echo(f"{install_id} is revoked.")


# ---------------------------------------------------------------- evidence


@_command("verify")
@click.option("--head", "earlier", type=ChainHead(), help="A head that was printed earlier: the chain must contain it.")
def verify(earlier: evidence.HeadOfChain | None) -> None:
    """Recompute the whole evidence chain and print its head, to be kept somewhere else."""
    session = _begun(begin_read)
    try:
        for done, links in evidence.verify(session, earlier):
            if done % LINKS_PER_LINE == 0 or done == links:
                click.echo(f"{done} of {links} links", err=True)
    except evidence.Break as found:
        raise click.ClickException(f"The evidence was changed: {found}") from None
    head = evidence.head(session)
    click.echo(f"{head.number}:{head.hash.hex()}")


# ---------------------------------------------------------------- photos


@_command("look-at-photos")
def look_at_photos() -> None:
    """Look at every photo that nobody has looked at yet, and tell the records that cite them what they say.

    The servers do so by themselves unless FIELD_API_LOOK_EVERY_S is 0.
    """
    _begun(begin_read).rollback()
    for left in current_app.extensions["darkroom"].rounds():
        photos = f"{left.photos} photos to look at, {left.citations} citations to compare"
        click.echo(f"{photos}, {left.records} records to look at again", err=True)
    click.echo("Nothing more can be looked at now.")


@_command("resemble")
def resemble() -> None:
    """Compare every record with all others anew, and count anew how often vendors were warned before.

    Once after an update from a version that did not compare, or with another table of weights. The servers may run.
    """
    total = reappraisal.total(_begun(begin_read))
    db.session.rollback()
    step: reappraisal.Step | None = reappraisal.begin()
    while step is not None:
        done = step.done
        step = reappraisal.walk(_begun(begin_write), step, yardstick(), now=_now())
        db.session.commit()
        if step is None or step.done // RECORDS_PER_LINE > done // RECORDS_PER_LINE:
            click.echo(f"{step.done if step else done:,} of {total:,} records", err=True)
    click.echo("Everything that was there has been compared.")


@_command("estimate-likeness")
@click.option("--pairs", type=click.Path(exists=True, dir_okay=False, path_type=Path), help="CSV: one,other,same.")
@click.option("--write", type=click.Path(dir_okay=False, path_type=Path), help="Where the new table of weights goes.")
def estimate_likeness(pairs: Path | None, write: Path | None) -> None:
    """Learn the weights of likeness from what people decided, and from labelled PAIRS; tell how good they are.

    Precision and recall before and after are of pairs that were not learned from. What is written is used once
    FIELD_API_LIKENESS_FILE names it; then `resemble` compares everything anew.
    """
    session = _begun(begin_read)
    try:
        judged = learning.decided(session) | (learning.labelled(pairs) if pairs else {})
    except ValueError as error:
        raise click.ClickException(str(error)) from None
    table, lessons = learning.learn(session, judged, yardstick(), now=_now())
    for line in learning.lines(lessons):
        click.echo(line)
    if not lessons:
        click.echo("Nobody has judged any pair yet: nothing was learned.")
    if write:
        write.write_bytes(orjson.dumps(written(table), option=orjson.OPT_INDENT_2))


@_command("access-log")
@click.option("--photo", "sha256", metavar="SHA256", help="Only who took out this photo.")
@click.option("--since", type=Day(), help="Only from this day on (Asia/Shanghai).")
def read_access_log(sha256: str | None, since: dt.date | None) -> None:
    """Print who took out what has to be accounted for, such as originals of photos, as CSV, oldest first."""
    since_at = dt.datetime.combine(since, dt.time(), LOCAL_ZONE) if since else None
    lines = csv.writer(sys.stdout, lineterminator="\n")
    lines.writerow(access_log.Entry._fields)
    for at, *entry, details in access_log.entries(_begun(begin_read), entity=sha256, since_at=since_at):
        lines.writerow([at.isoformat(), *entry, orjson.dumps(details).decode()])


@_command("check-store")
@click.option("--ask-again", is_flag=True, help="Photos that are missing count as never sent: phones are asked.")
def check_store(ask_again: bool) -> None:
    """Compare the store with the database: every photo's digest, bytes without a row, rows without bytes.

    Uploads that have expired are removed, and what uploads have left behind. It may run beside the servers, and takes
    as long as reading every photo takes. Exit status 1 if a photo's bytes are missing or wrong.
    """
    session = _begun(begin_read)
    session.rollback()
    for expired in _expired_uploads():
        click.echo(f"expired uploads removed: {expired}", err=True)
    found: Counter[str] = Counter()
    photos, rest = inventory.check_photos(session, store()), inventory.check_bytes(session, store(), now=_now())
    for page in chain(photos, rest):
        click.echo(
            f"{page.done} of {page.total} photos" if page.total else f"{page.done} things in the store", err=True
        )
        for finding in page.found:
            click.echo(f"{finding.what}: {click.format_filename(finding.key)}")
        if ask_again and (missing := [one.key.rpartition("/")[2] for one in page.found if one.what == "missing"]):
            inventory.ask_again(_begun(begin_write), missing, now=_now())
            db.session.commit()
        found.update(finding.what for finding in page.found)
    faults = sum(found[fault] for fault in inventory.FAULTS)
    click.echo(", ".join(f"{count} {what}" for what, count in found.items()) or "Nothing is out of order.")
    if faults:
        raise click.ClickException(f"photos missing or wrong: {faults}")


def _expired_uploads() -> Iterator[int]:
    """How many are removed by now, time and again."""
    total = 0
    while (forgotten := inventory.forget_expired(_begun(begin_write), now=_now())).uploads:
        db.session.commit()
        for key in forgotten.parts:
            store().drop(part_key(key))
        total += forgotten.uploads
        yield total
    db.session.rollback()
