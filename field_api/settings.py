"""What the environment says, read once. Units stand in the names; every variable is a row of the README's table."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

#: Where files go unless a variable says otherwise: beside the two packages.
INSTANCE_FOLDER = Path(__file__).resolve().parent.parent / "instance"
#: HS256 keys shorter than the hash weaken it (RFC 7518 §3.2).
SECRET_MIN_BYTES = 32
#: An origin as browsers write it (RFC 6454 §6.2): no path, no capitals, and `*` is none.
_ORIGIN = re.compile(r"[a-z][a-z0-9+.-]*://(?:[a-z0-9_-]+(?:\.[a-z0-9_-]+)*|\[[0-9a-f:.]+\])(?::[0-9]{1,5})?")
#: Variables that are not `FIELD_API_` and the name in capitals.
_VARIABLES = {
    "database_url": "DATABASE_URL",
    "store_url": "STORE_URL",
    "s3_key_id": "AWS_ACCESS_KEY_ID",
    "s3_secret": "AWS_SECRET_ACCESS_KEY",
    "s3_endpoint_url": "AWS_ENDPOINT_URL",
    "s3_region": "AWS_REGION",
}
#: Less probable than this is every second pair of neighbours.
LEAST_SCORE = 0.06
#: How numbers are read, and what they are called where they can't be.
_NUMBERS: dict[str, tuple[Any, str]] = {"int": (int, "a whole number"), "float": (float, "a number")}
#: No span of time is longer, s: ten years. Far longer ones no calendar and no clock can count.
LONGEST_S = 10 * 365 * 24 * 3600
#: Numbers that may be 0.
_MAY_BE_ZERO = {"trusted_proxies", "look_every_s", "export_every_s"}


class SettingsInvalid(Exception):
    """A variable of the environment is missing or makes no sense; the server does not start."""


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Every limit and place the server works with. Raises SettingsInvalid where a value can't be worked with."""

    #: Signs the tokens; at least 32 bytes. There is no default: whoever knows it can be anyone.
    secret: str = field(repr=False)
    database_url: str = f"sqlite:///{INSTANCE_FOLDER / 'field.sqlite'}"
    #: Where photos are kept, unless `store_url` says otherwise.
    store_folder: Path = INSTANCE_FOLDER / "photos"
    #: `s3://bucket/prefix`: photos are kept in an S3-compatible store.
    store_url: str = ""
    s3_key_id: str = ""
    s3_secret: str = field(default="", repr=False)
    s3_endpoint_url: str = ""
    s3_region: str = "us-east-1"

    batch_max_ops: int = 1_000
    #: Unpacked.
    batch_max_bytes: int = 8 * 1024 * 1024
    photo_max_bytes: int = 20 * 1024 * 1024
    #: What one officer may send on one day (Asia/Shanghai): some 700 photos of 3 MB.
    photo_day_max_bytes: int = 2 * 1024 * 1024 * 1024
    #: An upload that nobody goes on with is given up after this.
    upload_expires_s: int = 7 * 24 * 3600
    #: How often each process asks for photos that nobody has looked at; 0: `flask look-at-photos` does it elsewhere.
    look_every_s: int = 2
    #: How often each process asks for files that wait to be written; 0: other processes do it.
    export_every_s: int = 2
    #: How long a file that was asked for is kept.
    export_expires_s: int = 24 * 3600
    #: Pages of these origins (`https://desk.example https://other.example`) may call the API from a browser.
    cors_origins: str = ""

    access_token_s: int = 15 * 60
    refresh_token_s: int = 90 * 24 * 3600

    #: A table of weights of its own (`estimate-likeness` writes one); else the one that comes with the engine.
    likeness_file: str = ""
    #: How probable it has to be that two patrols, incidents, warnings or vendors are one before people are told of it.
    #: A look at two records is cheap, an event that counts twice is not: at 0.2 some 95 of 100 pairs that are one are
    #: told of, and a wrong one for 200 records (`make bench-likeness`). Of vendors more depends on it.
    likeness_patrol: float = 0.2
    likeness_incident: float = 0.2
    likeness_warning: float = 0.2
    likeness_vendor: float = 0.95

    #: Failed sign-ins within one window before a name or an address has to wait for the window's end.
    sign_in_window_s: int = 15 * 60
    sign_in_max_per_account: int = 10
    #: Larger: a whole office may sit behind one address.
    sign_in_max_per_address: int = 100

    #: Connections of one process: at least its threads, and for all processes fewer than the database allows.
    database_connections: int = 32
    database_wait_s: int = 5
    #: Reverse proxies in front whose X-Forwarded-For and -Proto are believed.
    trusted_proxies: int = 0

    def __post_init__(self) -> None:
        if len(self.secret.encode()) < SECRET_MIN_BYTES:
            raise SettingsInvalid(f"FIELD_API_SECRET has to be at least {SECRET_MIN_BYTES} bytes long")
        for name, value in vars(self).items():
            if isinstance(value, int) and value < (name not in _MAY_BE_ZERO):
                raise SettingsInvalid(f"{variable(name)} is too small: {value}")
            if name.endswith("_s") and value > LONGEST_S:
                raise SettingsInvalid(f"{variable(name)} is too large: {value}")
        for name, value in vars(self).items():
            if name.startswith("likeness_") and name != "likeness_file" and not LEAST_SCORE <= value < 1:
                told = f"has to be a probability from {LEAST_SCORE} to less than 1: {value}"
                raise SettingsInvalid(f"{variable(name)} {told}")
        for origin in self.origins:
            if not _ORIGIN.fullmatch(origin):
                raise SettingsInvalid(f"{variable('cors_origins')}: no origin, as in https://desk.example: {origin!r}")

    @property
    def origins(self) -> frozenset[str]:
        """The origins whose pages may call the API from a browser."""
        return frozenset(self.cors_origins.split())

    @classmethod
    def from_environment(cls, env: Mapping[str, str]) -> Settings:
        """The settings these variables ask for; an empty one counts as not set.

        Raises SettingsInvalid without a secret, or where a number isn't one.
        """
        given = {setting.name: env.get(variable(setting.name), "") for setting in fields(cls)}
        if not given["secret"]:
            raise SettingsInvalid(
                "FIELD_API_SECRET is not set, and there is no default. "
                "Make one: python -c 'import secrets; print(secrets.token_urlsafe(48))'"
            )
        return cls(**{name: _read(name, text) for name, text in given.items() if text})


def variable(name: str) -> str:
    """The environment's variable for the setting of this name."""
    return _VARIABLES.get(name, f"FIELD_API_{name.upper()}")


def _read(name: str, text: str) -> Any:
    kind = Settings.__annotations__[name]
    if kind == "Path":
        return Path(text)
    if kind not in _NUMBERS:
        return text
    read, called = _NUMBERS[kind]
    try:
        return read(text)
    except ValueError:
        raise SettingsInvalid(f"{variable(name)} is not {called}: {text!r}") from None
