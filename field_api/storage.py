"""Where this process keeps photos: in a folder, or in a bucket where `STORE_URL` names one."""

from __future__ import annotations

from urllib.parse import urlsplit

from flask import Flask, current_app

from field_api.settings import Settings, SettingsInvalid
from sync.store import Bucket, Folder, Store


def init_app(app: Flask, settings: Settings) -> None:
    """The app has its store; a bucket is asked nothing yet. Raises SettingsInvalid if there can't be such a bucket."""
    app.extensions["store"] = _bucket(settings) if settings.store_url else _folder(settings)


def store() -> Store:
    """The store of the app that is running."""
    kept: Store = current_app.extensions["store"]
    return kept


def _folder(settings: Settings) -> Folder:
    settings.store_folder.mkdir(parents=True, exist_ok=True)
    return Folder(settings.store_folder)


def _bucket(settings: Settings) -> Bucket:
    url = urlsplit(settings.store_url)
    if url.scheme != "s3" or not url.netloc:
        raise SettingsInvalid(f"STORE_URL has to be s3://bucket or s3://bucket/prefix, not {settings.store_url!r}")
    if not settings.s3_key_id or not settings.s3_secret:
        raise SettingsInvalid("STORE_URL needs AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY too")
    if settings.s3_endpoint_url and urlsplit(settings.s3_endpoint_url).scheme not in ("http", "https"):
        raise SettingsInvalid(f"AWS_ENDPOINT_URL has to begin with http or https, not {settings.s3_endpoint_url!r}")
    return Bucket(
        url.netloc,
        url.path.strip("/"),
        key_id=settings.s3_key_id,
        secret=settings.s3_secret,
        region=settings.s3_region,
        endpoint_url=settings.s3_endpoint_url,
    )
