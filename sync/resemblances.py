"""Finds what resembles what: sketches, candidates, weighed, kept; and looks again where more is known by now.

    sketch each record of the transaction → candidates, one statement a kind → weigh them (`likeness`, pure) → keep those
    more probable than not → group what was sent again

All pairs can't be compared. Candidates are those near in place and time, by the same officer from another installation,
with an equal photo, or with a vendor that may be the same. Who commits second finds the other: what was committed since
the first search is looked through once more when the counter is held.
"""

from __future__ import annotations

import datetime as dt
import math
import uuid
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from functools import cache
from importlib import resources
from typing import Any, NamedTuple

import orjson
from sqlalchemy import DateTime, Double, Integer, Select, Text, Uuid, and_, delete, func, or_, select, union_all
from sqlalchemy.orm import Session, aliased
from sqlalchemy.sql import FromClause

from sync import groups, vendors
from sync.fellegi_sunter import Table, bits_of, score_of
from sync.grouping import Pair, pair
from sync.groups import Spoken, Word
from sync.journal import digest_of
from sync.likeness import Sketch, is_resubmission, likeness, read_table, weight_or_none
from sync.models import (
    MOST_ERROR_OF_TILE_M,
    NO_TILE,
    AnnouncedPhoto,
    FeedEntry,
    Grouped,
    Head,
    Incident,
    Installation,
    Link,
    Patrol,
    PhotoFacts,
    Resemblance,
    TokenFamily,
    UtcDateTime,
    VendorKey,
    VendorWarning,
    among,
    as_rows,
    in_tile,
    insert_rows,
    tile_of,
)
