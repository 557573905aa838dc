"""The app, put together: the ground floor, one blueprint per noun, what goes on behind them, operators' commands."""

from __future__ import annotations

from typing import Any

from flask import Flask
from werkzeug.middleware.proxy_fix import ProxyFix

from field_api import (
    access_tokens,
    answers,
    api_document,
    batches,
    changes,
    commands,
    darkroom,
    database,
    export_jobs,
    exports,
    features,
    features_document,
    health,
    identity,
    installations,
    ledgers,
    origins,
    patrol_log,
    photos,
    review,
    sign_in,
    storage,
    uploads,
    vendors,
    yardstick,
)
from field_api.settings import Settings

#: Every noun of the URL, in the order of the API document.
NOUNS: tuple[Any, ...] = (
    *(sign_in, access_tokens, batches, changes, uploads, patrol_log, vendors, photos, review, installations, exports),
    *(ledgers, export_jobs, health, features, features_document, api_document),
)


def create_app(settings: Settings) -> Flask:
    """The app for these settings. It connects to nothing before the first request."""
    app = Flask(__name__, static_folder=None)
    app.extensions["settings"] = settings
    app.config["MAX_CONTENT_LENGTH"] = max(settings.batch_max_bytes, settings.photo_max_bytes)
    database.init_app(app, settings)
    storage.init_app(app, settings)
    identity.init_app(app, settings)
    yardstick.init_app(app, settings)
    api = api_document.init_app(app)
    answers.init_app(app)
    origins.init_app(app, settings)
    access_tokens.init_app(app)
    for noun in NOUNS:
        api.register_blueprint(noun.blueprint)
    darkroom.init_app(app, settings)
    export_jobs.init_app(app, settings)
    commands.register(app)
    if settings.trusted_proxies:
        proxies = settings.trusted_proxies
        app.wsgi_app = ProxyFix(app.wsgi_app, x_for=proxies, x_proto=proxies)  # type: ignore[method-assign]
    return app
