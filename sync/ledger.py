"""The ledger (台账) as offices keep it: the incidents of a township in a month, with small pictures of before and after
in the cells; and the originals behind them, in folders by field of law, with a manifest of their digests.

Columns, visibility and masking are those of exports (`columns`). Pictures are the thumbs that somebody has made already
(`darkroom`); of a photo that has none the cell says so. Both files take memory for one picture at a time.
"""

from __future__ import annotations

import csv
import datetime as dt
import hashlib
import io
import re
import zipfile
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from sync import patrol_log
from sync.clock import LOCAL_ZONE
from sync.columns import Chunk, Column, Wanted, read
from sync.models import AnnouncedPhoto, Incident, SignedIn
from sync.patrol_log import Selection
from sync.problems import FormatNotInstalled
from sync.shapes import Query
from sync.store import PIECE_BYTES, Store, derivative_key, photo_key
from sync.wire import Text

try:  # optional, see requirements-gis.txt
    import xlsxwriter
except ImportError:
    xlsxwriter = None

#: What of an incident stands in the ledger, in the order of its columns.
FIELDS = (
    *("occurred_at", "township_name", "officer_full_name", "item_names", "domains", "description", "measures"),
    *("vendor_name", "vendor_phone", "designated_place", "lon", "lat"),
)
#: The two columns of pictures: which photos by the role their record gave them, and the title.
PICTURES = (("before", "处置前照片"), ("after", "处置后照片"))
#: A picture's place: the width of its column in characters, the height of its row in points, its own in pixels.
_WIDTH_CHARS, _HEIGHT_POINTS, _WIDTH_PX, _HEIGHT_PX = 22, 90, 150, 112
#: The longest side of a thumb (`pictures.THUMB_PX`).
_THUMB_PX = 320
_MONTH = re.compile("20[0-9]{2}-(0[1-9]|1[0-2])")
#: What no file system takes in a name.
_NOT_IN_NAMES = re.compile(r'[\x00-\x1f<>:"/\\|?*.]+')
_UNSORTED = "未分类"


class LedgerQuery(Query):
    """Which township's ledger, of which month in China."""

    township = Text(12, required=True, pattern=re.compile("[0-9]{6,12}"))
    month = Text(7, required=True, pattern=_MONTH)


@dataclass(frozen=True, slots=True)
class Cited:
    """A photo that an incident cites and that has arrived."""

    sha256: str
    role: str


def wanted(township: str, month: str) -> Wanted:
    """What of the incidents stands in this ledger; months are those of China."""
    year, number = map(int, month.split("-"))
    begins = dt.datetime(year, number, 1, tzinfo=LOCAL_ZONE)
    ends = dt.datetime(year + number // 12, number % 12 + 1, 1, tzinfo=LOCAL_ZONE)
    selection = Selection(township=township, from_at=begins, until_at=ends)
    return Wanted("incident", selection, FIELDS, lang="zh")


def check() -> None:
    """Raises FormatNotInstalled where no spreadsheet can be written."""
    if xlsxwriter is None:
        raise FormatNotInstalled(format="xlsx", install="pip install -r requirements-gis.txt")


# ---------------------------------------------------------------- the spreadsheet


def write(session: Session, who: SignedIn, asked: Wanted, store: Store, path: Path) -> int:
    """How many incidents the ledger at this path now holds. The caller has begun a transaction that sees one moment."""
    cited = _cited(session, who, asked)
    book = xlsxwriter.Workbook(path, {"constant_memory": True, "tmpdir": str(path.parent)} | _NO_GUESSING)
    try:
        return _fill(session, who, asked, book, _Thumbs(store, path.parent), cited)
    finally:
        book.close()


_NO_GUESSING = {"strings_to_formulas": False, "strings_to_urls": False, "strings_to_numbers": False}


def _fill(session: Session, who: SignedIn, asked: Wanted, book: Any, thumbs: _Thumbs, cited: _ByRecord) -> int:
    layout, chunks = read(session, who, asked)
    columns = layout.columns[1:-1]  # neither the id, which nobody reads, nor the coordinate system, told above
    sheet, head = book.add_worksheet("台账"), book.add_format({"bold": True, "border": 1, "bg_color": "#DDEBF7"})
    cell = book.add_format({"text_wrap": True, "valign": "top", "border": 1})
    date = book.add_format({"num_format": "yyyy-mm-dd hh:mm", "valign": "top", "border": 1})
    titles = ["序号", *(_title(column) for column in columns), *(title for _, title in PICTURES)]
    for place, title in enumerate(titles):
        sheet.write_string(0, place, title, head)
    sheet.freeze_panes(1, 2)
    sheet.set_column(1, len(titles) - 1, _WIDTH_CHARS)
    number = 0
    for number, (id, *values) in enumerate(_rows(chunks), start=1):
        sheet.set_row(number, _HEIGHT_POINTS)
        sheet.write_number(number, 0, number, cell)
        for place, (column, value) in enumerate(zip(columns, values, strict=False), start=1):
            _put(sheet, number, place, column.type, value, date if column.type == "instant" else cell)
        for place, (role, _) in enumerate(PICTURES, start=1 + len(columns)):
            _picture(sheet, number, place, [each for each in cited.get(id, ()) if each.role == role], thumbs, cell)
    return number


def _title(column: Column) -> str:
    return f"{column.heading}（北京时间）" if column.type == "instant" else column.heading


def _rows(chunks: Iterator[Chunk]) -> Iterator[tuple[Any, ...]]:
    for chunk in chunks:
        yield from zip(*chunk.columns, strict=True)


def _put(sheet: Any, row: int, place: int, type: str, value: Any, format: Any) -> None:
    if value is None:
        sheet.write_blank(row, place, None, format)
    elif type == "instant":
        sheet.write_datetime(row, place, value.astimezone(LOCAL_ZONE).replace(tzinfo=None), format)
    elif type in ("x", "y"):
        sheet.write_number(row, place, value, format)
    else:
        sheet.write_string(row, place, "；".join(value) if type == "words" else value, format)


def _picture(sheet: Any, row: int, place: int, photos: Sequence[Cited], thumbs: _Thumbs, format: Any) -> None:
    """The first photo's thumb, and how many more there are."""
    more = f"共 {len(photos)} 张" if len(photos) > 1 else ""
    thumb = thumbs.of(photos[0].sha256) if photos else None
    missing = "（无缩略图）" if photos and thumb is None else ""
    sheet.write_string(row, place, missing + more, format)
    if thumb is not None:
        scale = min(_WIDTH_PX, _HEIGHT_PX) / _THUMB_PX
        sheet.insert_image(row, place, thumb, {"x_scale": scale, "y_scale": scale, "object_position": 1})


class _Thumbs:
    """Thumbs as files beside the ledger, each once: it holds none of them in memory, and reads them when it ends."""

    def __init__(self, store: Store, folder: Path) -> None:
        self._store = store
        self._folder = folder

    def of(self, sha256: str) -> str | None:
        """The file with this photo's thumb; `None` if nobody has made one."""
        path = self._folder / f"{sha256}.jpg"
        if not path.exists():
            try:
                with self._store.opened(derivative_key(sha256, "thumb")) as thumb:
                    path.write_bytes(thumb.read())
            except FileNotFoundError:
                return None
        return str(path)


_ByRecord = Mapping[str, Sequence[Cited]]


def _cited(session: Session, who: SignedIn, asked: Wanted) -> _ByRecord:
    """The photos of each incident that have arrived, in the order told."""
    selected = patrol_log.matching(session, who, "incident", asked.selection)
    arrived = (AnnouncedPhoto.record_id == Incident.id) & ~patrol_log.is_missing()
    told = select(Incident.id, Incident.photos, AnnouncedPhoto.sha256).join(AnnouncedPhoto, arrived)
    found: dict[str, list[Cited]] = defaultdict(list)
    for id, photos, sha256 in session.execute(told.where(patrol_log.visible_to(Incident, who), *selected)):
        found[str(id)] += [Cited(sha256, each.get("role") or "") for each in photos if each["sha256"] == sha256]
    return found


# ---------------------------------------------------------------- the originals


@dataclass(frozen=True, slots=True)
class Original:
    """A photo on its way out: its place in the archive, and the incident that cites it."""

    path: str
    sha256: str
    role: str
    incident: str


def originals(session: Session, who: SignedIn, asked: Wanted) -> list[Original]:
    """The photos behind the ledger, in folders by the field of law of their incident's first item."""
    cited = _cited(session, who, asked)
    _, chunks = read(session, who, asked)
    order = ("id", *FIELDS)
    rows = (dict(zip(order, row, strict=False)) for row in _rows(chunks))
    return [_original(row, photo) for row in rows for photo in cited.get(row["id"], ())]


def _original(row: Mapping[str, Any], photo: Cited) -> Original:
    folder = _named(row["domains"][0]) if row["domains"] else _UNSORTED
    at = row["occurred_at"].astimezone(LOCAL_ZONE).strftime("%Y%m%d-%H%M%S")
    name = f"{at}-{row['id'][:8]}-{_named(photo.role) or 'photo'}-{photo.sha256[:12]}"
    return Original(f"{folder}/{name}", photo.sha256, photo.role, row["id"])


def _named(text: str) -> str:
    return _NOT_IN_NAMES.sub("_", text).strip("_ ")[:40]


#: The endings of pictures, by the bytes that their files begin with; others are `.bin`.
_ENDINGS = {b"\xff\xd8\xff": "jpg", b"\x89PNG": "png", b"RIFF": "webp"}


def archive(store: Store, photos: Sequence[Original], enter: Callable[[Original], None]) -> Iterator[bytes]:
    """A ZIP with the originals as they are and, last, `manifest.csv`, piece by piece. `enter` is told of each photo
    before a byte of it leaves. One whose bytes are gone, or are not what they were, is in the manifest as that.

    Unless it is read to its end it has no directory, and nothing takes it for a whole one.
    """
    pipe, lines = _Pipe(), [("path", "sha256", "bytes", "state", "role", "incident")]
    with zipfile.ZipFile(pipe, "w", zipfile.ZIP_STORED) as packed:
        for photo in photos:
            try:
                with store.opened(photo_key(photo.sha256)) as file:
                    enter(photo)
                    copied = _Copied(packed, photo, file)
                    for _ in copied.pieces():
                        yield pipe.taken()
                lines.append(
                    (copied.path, photo.sha256, str(copied.size_bytes), copied.state, photo.role, photo.incident)
                )
            except FileNotFoundError:
                lines.append(("", photo.sha256, "0", "missing", photo.role, photo.incident))
        text = io.StringIO()
        csv.writer(text).writerows(lines)
        packed.writestr(_entry("manifest.csv"), ("\ufeff" + text.getvalue()).encode())
    yield pipe.taken()


class _Copied:
    """An original that is copied into an archive; afterwards what it came to."""

    def __init__(self, packed: zipfile.ZipFile, photo: Original, file: IO[bytes]) -> None:
        self._packed, self._photo, self._file = packed, photo, file
        self._digest = hashlib.sha256()
        self.size_bytes = 0
        self.path = ""

    def pieces(self) -> Iterator[None]:
        """Copies piece by piece."""
        piece = self._file.read(PIECE_BYTES)
        ending = next((ending for head, ending in _ENDINGS.items() if piece.startswith(head)), "bin")
        self.path = f"{self._photo.path}.{ending}"
        with self._packed.open(_entry(self.path), "w", force_zip64=True) as entry:
            while piece:
                self._digest.update(piece)
                self.size_bytes += entry.write(piece)
                yield
                piece = self._file.read(PIECE_BYTES)

    @property
    def state(self) -> str:
        return "ok" if self._digest.hexdigest() == self._photo.sha256 else "changed"


def _entry(path: str) -> zipfile.ZipInfo:
    """An entry without a time of its own: the same photos are the same archive."""
    return zipfile.ZipInfo(path)


class _Pipe(io.RawIOBase):
    """What was written and not yet taken; nobody can seek in it."""

    def __init__(self) -> None:
        self._pieces: list[bytes] = []

    def writable(self) -> bool:
        return True

    def write(self, piece: Any) -> int:
        self._pieces.append(bytes(piece))
        return len(piece)

    def taken(self) -> bytes:
        pieces, self._pieces = self._pieces, []
        return b"".join(pieces)
