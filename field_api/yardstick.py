"""What likeness is measured by: the table of weights and from which score people are told, read once at the start."""

from __future__ import annotations

from pathlib import Path

from flask import Flask, current_app

from field_api.settings import Settings, SettingsInvalid, variable
from sync.resemblances import Yardstick, read_weights


def init_app(app: Flask, settings: Settings) -> None:
    """The app has a yardstick. Raises SettingsInvalid where the table that is set can't be read."""
    file = Path(settings.likeness_file) if settings.likeness_file else None
    told_from = {
        "patrol": settings.likeness_patrol,
        "incident": settings.likeness_incident,
        "warning": settings.likeness_warning,
        "vendor": settings.likeness_vendor,
    }
    try:
        app.extensions["yardstick"] = Yardstick(read_weights(file), told_from)
    except (OSError, ValueError) as error:
        raise SettingsInvalid(f"{variable('likeness_file')} holds no table of weights: {error}") from error


def yardstick() -> Yardstick:
    """The yardstick of the running app."""
    found: Yardstick = current_app.extensions["yardstick"]
    return found
