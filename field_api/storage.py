"""Where this process keeps photos: in a folder, or in a bucket where `STORE_URL` names one."""

from __future__ import annotations

from flask import Flask, current_app

from field_api.settings import Settings
from sync.store import Folder, Store


def init_app(app: Flask, settings: Settings) -> None:
    """The app has its store. A bucket is connected to on first use, in whichever process that is."""
    settings.store_folder.mkdir(parents=True, exist_ok=True)
    app.extensions["store"] = Folder(settings.store_folder)


def store() -> Store:
    """The store of the app that is running."""
    kept: Store = current_app.extensions["store"]
    return kept
