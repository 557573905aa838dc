"""The door on a database of its own, asked through Flask's test client."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient

from field_api.app import create_app
from field_api.database import db
from field_api.identity import tokens
from field_api.settings import Settings
from sync.accounts import Grant
from sync.models import SignedIn, TokenFamily, begin_write
from tests.builders import CREATED_AT

#: Signs the tokens of tests and nothing else.
SECRET = "only-for-tests-" * 3


@pytest.fixture
def make_app(database_url: str, tmp_path: Path) -> Iterator[Callable[..., Flask]]:
    """Makes an app on an empty database; settings can be given by name: `make_app(batch_max_ops=3)`."""
    made: list[Flask] = []

    def make(**settings: Any) -> Flask:
        here = {"database_url": database_url, "store_folder": tmp_path / "photos"}
        made.append(
            create_app(Settings(**{"secret": SECRET, "look_every_s": 0, "export_every_s": 0} | here | settings))
        )
        return made[-1]

    yield make
    for app in made:
        app.extensions["darkroom"].close()
        app.extensions["export_jobs"].close()
        with app.app_context():
            db.engine.dispose()


@pytest.fixture
def client(make_app: Callable[..., Flask]) -> FlaskClient:
    """Asks an app with the usual settings."""
    return make_app().test_client()


@pytest.fixture
def bearer(client: FlaskClient) -> Callable[..., dict[str, str]]:
    """The headers of a request by somebody whom `make_signed_in` made and the test committed."""

    def sign(who: SignedIn, kind: str = "access_token") -> dict[str, str]:
        family_id = uuid.uuid4()
        with client.application.app_context():
            begin_write(db.session())
            db.session.add(
                TokenFamily(
                    id=family_id,
                    account_id=who.account_id,
                    install_id=who.install_id,
                    generation=1,
                    created_at=CREATED_AT,
                )
            )
            db.session.commit()
            token = tokens(Grant(family_id, 1, who, "", None))[kind]
        return {"Authorization": f"Bearer {token}"}

    return sign
