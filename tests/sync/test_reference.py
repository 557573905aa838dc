"""Reference folders: what loads, what is refused and where, and that nothing is ever half loaded."""

from __future__ import annotations

import csv
import datetime as dt
import hashlib
import io
import json
import re
import shutil
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import Engine, func, select
from sqlalchemy.orm import Session

from sync import journal, reference, sheets
from sync.models import (
    Delegation,
    DesignatedPlace,
    EnforcementItem,
    FeedEntry,
    Head,
    Link,
    Provision,
    Township,
    TownshipArea,
    begin_write,
)
from sync.places import Position
from sync.problems import ReferenceInvalid
from tests.counting import count_statements
from tests.demo import demo_list

CARRIED = demo_list.REFERENCE
DAY = dt.date(2026, 11, 23)
FACTS = {
    fact["key"]: fact["value"]
    for fact in json.loads((CARRIED / "seed_facts.json").read_text(encoding="utf-8"))["facts"]
}


def load(session: Session, folder: Path, now: dt.datetime) -> reference.Plan:
    session.rollback()
    begin_write(session)
    done = reference.load(session, reference.read(folder), now=now)
    session.commit()
    return done


def head(session: Session) -> tuple[int, Any]:
    row = session.execute(select(Head.number, Head.reference_version)).one()
    return row.number, row.reference_version


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A copy of the carried folder, to be spoilt or changed."""
    return Path(shutil.copytree(CARRIED, tmp_path / "reference"))


@pytest.fixture(scope="session")
def lists(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The demo's lists as the generator writes them."""
    folder = tmp_path_factory.mktemp("lists")
    demo_list.write(folder)
    return folder


def rewrite(folder: Path, file: str, change: Callable[[str], str]) -> None:
    path = folder / file
    before = path.read_text(encoding="utf-8")
    after = change(before)
    assert after != before, "the test changed nothing"
    path.write_text(after, encoding="utf-8")


def rows(folder: Path, file: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO((folder / file).read_text(encoding="utf-8"))))


# ---------------------------------------------------------------- loading


def test_the_carried_folder_loads_and_says_what_it_added(session: Session, now: dt.datetime) -> None:
    done = load(session, CARRIED, now)
    assert {file: counts.added for file, counts in done.counts.items()} == {
        "townships.csv": 27,
        "township_areas.geojson": 22,
        "departments.csv": 9,
        "event_classes.csv": 111,
        "enforcement_items.csv": 30,
        "provisions.csv": 35,
        "designated_places.geojson": 23,
    }
    item = session.scalars(select(EnforcementItem).where(EnforcementItem.code == "DEMO-SR-005")).one()
    assert (item.person_min_yuan, item.org_max_yuan, item.event_classes) == (200, 3000, ["06036"])
    laws = session.scalars(select(Provision.law).where(Provision.item_id == item.id).order_by(Provision.ordinal)).all()
    assert laws == ["浙江省城市市容和环境卫生管理条例(2021修正)", "城市市容和环境卫生管理条例(2017修订)"]


def test_loading_again_changes_nothing_and_is_not_journalled(session: Session, now: dt.datetime) -> None:
    load(session, CARRIED, now)
    before = head(session)
    again = load(session, CARRIED, now)
    assert not again.changes_something
    assert all(counts.unchanged and not counts.added + counts.changed for counts in again.counts.values())
    assert head(session) == before


def test_planning_writes_nothing(session: Session) -> None:
    planned = reference.plan(session, reference.read(CARRIED))
    assert planned.changes_something
    session.commit()
    assert session.scalar(select(func.count()).select_from(Township)) == 0


def test_a_changed_row_is_changed_in_place_and_gives_a_new_version(
    session: Session, folder: Path, now: dt.datetime
) -> None:
    load(session, folder, now)
    number, version = head(session)
    before = session.scalars(select(EnforcementItem.id).where(EnforcementItem.code == "DEMO-SR-002")).one()
    rewrite(folder, "enforcement_items.csv", lambda text: text.replace(",100,1000,100,1000,", ",100,2000,100,2000,"))
    done = load(session, folder, now)
    assert done.counts["enforcement_items.csv"] == (0, 1, 29)
    item = session.scalars(select(EnforcementItem).where(EnforcementItem.code == "DEMO-SR-002")).one()
    assert (item.id, item.org_max_yuan) == (before, 2000)
    later_number, later_version = head(session)
    assert later_number == number + 1
    assert later_version != version


def test_an_absent_file_leaves_its_table_as_it_is(session: Session, folder: Path, now: dt.datetime) -> None:
    load(session, folder, now)
    for path in folder.glob("*"):
        if path.name != "designated_places.geojson":
            path.unlink()
    rewrite(folder, "designated_places.geojson", lambda text: text.replace('"05:00-08:30"', '"06:00-08:00"', 1))
    assert load(session, folder, now).counts == {"designated_places.geojson": (0, 1, 22)}
    assert session.scalar(select(func.count()).select_from(Township)) == 27


def test_what_is_left_out_of_a_file_stays_and_what_ends_gets_a_last_day(
    session: Session, folder: Path, now: dt.datetime
) -> None:
    load(session, folder, now)
    rewrite(folder, "designated_places.geojson", lambda text: re.sub(r"\n.*DEMO-DP-330109003-01.*", "", text))
    rewrite(
        folder,
        "designated_places.geojson",
        lambda text: text.replace('"until_on": null', '"until_on": "2026-12-31"', 1),
    )
    load(session, folder, now)
    assert session.get(DesignatedPlace, "DEMO-DP-330109003-01") is not None
    ended = session.get_one(DesignatedPlace, "DEMO-DP-330109001-01")
    assert ended.until_on == dt.date(2026, 12, 31)


@pytest.mark.parametrize("mark", ["", "\ufeff"])
@pytest.mark.parametrize("ending", ["\n", "\r\n"])
def test_a_byte_order_mark_and_windows_line_ends_are_read(folder: Path, mark: str, ending: str) -> None:
    text = (folder / "townships.csv").read_text(encoding="utf-8")
    (folder / "townships.csv").write_bytes((mark + text.replace("\n", ending)).encode())
    read = reference.read(folder)
    assert read.faults == ()
    assert len(read.lines["townships.csv"]) == 27


def test_a_new_edition_of_an_item_begins_after_the_old_one_ended(
    session: Session, folder: Path, now: dt.datetime
) -> None:
    load(session, folder, now)
    old = rows(folder, "enforcement_items.csv")[0]
    new = old | {"from_on": "2027-01-01", "name": old["name"] + "（新）"}
    (folder / "provisions.csv").unlink()
    write_rows(folder, "enforcement_items.csv", [old | {"until_on": "2026-12-31"}, new])
    assert load(session, folder, now).counts["enforcement_items.csv"] == (1, 1, 0)
    editions = reference.snapshot(session).lists.items[old["code"]]
    assert [edition.from_on for edition in editions] == [dt.date(2027, 1, 1), dt.date(2022, 1, 1)]


def write_rows(folder: Path, file: str, lines: list[dict[str, str]]) -> None:
    with (folder / file).open("w", encoding="utf-8", newline="") as out:
        writer = csv.DictWriter(out, list(lines[0]))
        writer.writeheader()
        writer.writerows(lines)


# ---------------------------------------------------------------- the journal


def test_each_changed_entity_is_in_the_feed_and_sworn_to_in_one_link(session: Session, now: dt.datetime) -> None:
    load(session, CARRIED, now)
    feed = Counter(session.scalars(select(FeedEntry.kind)))
    assert feed == {"township": 27, "department": 9, "event_class": 111, "item": 30, "place": 23}
    link = session.scalars(select(Link)).one()
    entries = journal.entries_of(link)
    assert len(entries) == sum(feed.values())
    department = [sheets.DEPARTMENTS.file, {"code": "DEMO-D-GZ", "name": "区规资分局"}]
    sworn = hashlib.sha256(journal.canonical(department)).hexdigest()
    assert ["department", "DEMO-D-GZ", sworn] in entries


def test_a_changed_provision_moves_its_item_and_nothing_else(session: Session, folder: Path, now: dt.datetime) -> None:
    load(session, folder, now)
    first = session.scalars(select(Link)).one().key
    rewrite(folder, "provisions.csv", lambda text: text.replace("第十四条第三款", "第十四条第四款", 1))
    load(session, folder, now)
    moved = session.execute(select(FeedEntry.kind, FeedEntry.entity).where(FeedEntry.link_key != first)).all()
    assert moved == [("item", "DEMO-SR-006@2022-01-01")]


# ---------------------------------------------------------------- what is refused


Spoil = Callable[[Path], None]


def replacing(file: str, old: str, new: str) -> Spoil:
    return lambda folder: rewrite(folder, file, lambda text: text.replace(old, new, 1))


def adding(file: str, line: str) -> Spoil:
    return lambda folder: rewrite(folder, file, lambda text: text + line + "\n")


def writing(file: str, content: bytes) -> Spoil:
    def spoil(folder: Path) -> None:
        (folder / file).write_bytes(content)

    return spoil


def delegating(lines: str) -> Spoil:
    return writing(DELEGATIONS, f"township_code,township_name,item_code,from_on,until_on\n{lines}".encode())


TOWNSHIPS, DEPARTMENTS = "townships.csv", "departments.csv"
ITEMS, PROVISIONS, DELEGATIONS = "enforcement_items.csv", "provisions.csv", "delegations.csv"
AREAS, PLACES = "township_areas.geojson", "designated_places.geojson"
GUALI_ITEM = "330109113,瓜沥镇,DEMO-SR-001,"
EPSG_4549 = '"crs": {"type": "name", "properties": {"name": "urn:ogc:def:crs:EPSG::4549"}}, '
BOWTIE = '{"type": "Polygon", "coordinates": [[[120, 30], [121, 31], [121, 30], [120, 31], [120, 30]]]}'


def area(geometry: str, *, crs: str = "") -> bytes:
    properties = (
        '{"township_code": "330109113", "township_name": "瓜沥镇", "edition": "x", "synthetic": true, '
        '"from_on": null, "until_on": null}'
    )
    feature = f'{{"type": "Feature", "properties": {properties}, "geometry": {geometry}}}'
    return f'{{"type": "FeatureCollection", {crs}"features": [\n\n{feature}]}}'.encode()


SPOILT: list[tuple[str, Spoil, tuple[str, int, str]]] = [
    ("a column is missing", replacing(TOWNSHIPS, ",pinyin", ""), (TOWNSHIPS, 1, "missing-column")),
    ("a column is misspelt", replacing(TOWNSHIPS, "until_on", "untill_on"), (TOWNSHIPS, 1, "missing-column")),
    ("a column is unknown", replacing(TOWNSHIPS, "until_on", "until_on,x"), (TOWNSHIPS, 1, "unknown-column")),
    ("a column is given twice", replacing(DEPARTMENTS, "name", "name,name"), (DEPARTMENTS, 1, "unknown-column")),
    ("a property is missing", replacing(PLACES, '"hours"', '"hour"'), (PLACES, 2, "missing-column")),
    ("a date has slashes", adding(TOWNSHIPS, "330109999,新,镇,,2022/01/01,,"), (TOWNSHIPS, 29, "bad-date")),
    ("a date has no dashes", adding(TOWNSHIPS, "330109999,新,镇,,20220101,,"), (TOWNSHIPS, 29, "bad-date")),
    ("a day does not exist", adding(TOWNSHIPS, "330109999,新,镇,,2022-02-30,,"), (TOWNSHIPS, 29, "bad-date")),
    (
        "it ends before it begins",
        adding(TOWNSHIPS, "330109999,新,镇,,2022-02-02,2022-02-01,"),
        (TOWNSHIPS, 29, "until-before-from"),
    ),
    ("a code has 12 digits", adding(TOWNSHIPS, "330109999000,新,镇,,,,"), (TOWNSHIPS, 29, "bad-township-code")),
    ("a name is missing", adding(TOWNSHIPS, "330109999,,镇,,,,"), (TOWNSHIPS, 29, "missing-value")),
    ("a row is too short", adding(TOWNSHIPS, "330109999,新"), (TOWNSHIPS, 29, "bad-csv")),
    ("a quote is never closed", adding(TOWNSHIPS, '"330109999'), (TOWNSHIPS, 29, "bad-csv")),
    ("a row comes twice", adding(TOWNSHIPS, "330109113,瓜沥镇,镇,gua li,,,"), (TOWNSHIPS, 29, "duplicate-row")),
    ("a text holds NUL", adding(DEPARTMENTS, "D-1,\0x"), (DEPARTMENTS, 11, "bad-text")),
    ("a text holds half a character", replacing(PLACES, "05:00-08:30", "\\ud800"), (PLACES, 2, "bad-text")),
    ("an amount has 5,000 digits", replacing(ITEMS, ",100,1000,", f",{'9' * 5000},1000,"), (ITEMS, 3, "bad-number")),
    ("a code is too long", adding(DEPARTMENTS, "D" * 41 + ",x"), (DEPARTMENTS, 11, "bad-text")),
    ("a file is GBK", writing(DEPARTMENTS, "code,name\nD-1,区规资分局\n".encode("gbk")), (DEPARTMENTS, 2, "not-utf8")),
    ("an amount is negative", replacing(ITEMS, ",100,1000,", ",-100,1000,"), (ITEMS, 3, "bad-number")),
    ("an amount is too large", replacing(ITEMS, ",100,1000,", ",100,2147483648,"), (ITEMS, 3, "bad-number")),
    ("an amount is in full-width digits", replacing(ITEMS, ",100,1000,", ",１００,1000,"), (ITEMS, 3, "bad-number")),
    ("a scope is unknown", replacing(ITEMS, "comprehensive", "综合"), (ITEMS, 2, "bad-word")),
    ("a flag is a word", replacing(ITEMS, ",1,2022", ",yes,2022"), (ITEMS, 2, "bad-flag")),
    ("a department is unknown", replacing(ITEMS, "DEMO-D-ZHZF", "DEMO-D-X"), (ITEMS, 2, "unknown-department")),
    ("an event class is unknown", replacing(ITEMS, "09001", "99999"), (ITEMS, 2, "unknown-event-class")),
    ("a provision has no item", replacing(PROVISIONS, "DEMO-SR-001", "DEMO-SR-999"), (PROVISIONS, 2, "unknown-item")),
    (
        "a provision is of no edition",
        replacing(PROVISIONS, "2022-01-01", "2023-01-01"),
        (PROVISIONS, 2, "unknown-item"),
    ),
    (
        "a delegation's item is unknown",
        delegating("330109113,瓜沥镇,X,2022-06-01,\n"),
        (DELEGATIONS, 2, "unknown-item"),
    ),
    (
        "a delegation's township is unknown",
        delegating("330109999,瓜沥镇,DEMO-SR-001,2022-06-01,\n"),
        (DELEGATIONS, 2, "unknown-township"),
    ),
    (
        "a delegation gives another's name",
        delegating("330109012,新街街道,DEMO-SR-001,2022-06-01,\n"),
        (DELEGATIONS, 2, "name-mismatch"),
    ),
    (
        "delegations overlap",
        delegating(f"{GUALI_ITEM}2022-06-01,\n{GUALI_ITEM}2023-06-01,\n"),
        (DELEGATIONS, 3, "overlapping-days"),
    ),
    ("an area gives another's name", replacing(AREAS, "闻堰街道", "宁围街道"), (AREAS, 8, "name-mismatch")),
    ("an area crosses itself", writing(AREAS, area(BOWTIE)), (AREAS, 3, "bad-geometry")),
    (
        "an area is a point",
        writing(AREAS, area('{"type": "Point", "coordinates": [120, 30]}')),
        (AREAS, 3, "bad-geometry"),
    ),
    ("an area is empty", writing(AREAS, area('{"type": "Polygon", "coordinates": []}')), (AREAS, 3, "bad-geometry")),
    ("an area is missing", writing(AREAS, area("null")), (AREAS, 3, "bad-geometry")),
    ("a ring is open", writing(AREAS, area(BOWTIE.replace(", [120, 31], [120, 30]", ""))), (AREAS, 3, "bad-geometry")),
    (
        "coordinates are metres",
        writing(AREAS, area(BOWTIE.replace("120", "520000"))),
        (AREAS, 3, "lon-lat-out-of-range"),
    ),
    (
        "latitude comes first",
        replacing(PLACES, "[120.23711, 30.16166]", "[30.16166, 120.23711]"),
        (PLACES, 2, "lon-lat-swapped"),
    ),
    ("the coordinates are projected", writing(AREAS, area(BOWTIE, crs=EPSG_4549)), (AREAS, 1, "bad-crs")),
    ("the GeoJSON is cut off", writing(AREAS, area(BOWTIE)[:-2]), (AREAS, 3, "bad-json")),
    ("the GeoJSON is a list", writing(AREAS, b"[]"), (AREAS, 1, "bad-json")),
    ("a feature is a number", writing(AREAS, b'{"features": [1]}'), (AREAS, 1, "bad-json")),
    ("a coordinate is NaN", writing(AREAS, area(BOWTIE.replace("120,", "NaN,"))), (AREAS, 1, "bad-json")),
    ("the GeoJSON is 100,000 deep", writing(AREAS, b"[" * 100_000), (AREAS, 1, "bad-json")),
    ("a file's name is misspelt", writing("delegation.csv", b""), ("delegation.csv", 0, "unknown-file")),
]


@pytest.mark.parametrize(("spoil", "fault"), [case[1:] for case in SPOILT], ids=[case[0] for case in SPOILT])
def test_a_fault_is_told_by_file_and_line_and_nothing_is_loaded(
    session: Session, folder: Path, now: dt.datetime, spoil: Spoil, fault: tuple[str, int, str]
) -> None:
    spoil(folder)
    begin_write(session)
    with pytest.raises(ReferenceInvalid) as refused:
        reference.load(session, reference.read(folder), now=now)
    session.commit()
    told = [(error["file"], error["line"], error["code"]) for error in refused.value.details["errors"]]
    assert fault in told
    assert session.scalar(select(func.count()).select_from(Township)) == 0


def test_every_fault_has_a_case() -> None:
    elsewhere = {"no-files"}
    assert {code for _, _, (_, _, code) in SPOILT} | elsewhere == set(sheets.FAULTS)


def test_all_faults_are_told_at_once(session: Session, folder: Path) -> None:
    adding("townships.csv", "330109999,新,镇,,2022/01/01,2022-13-01,")(folder)
    adding("departments.csv", "D-1,")(folder)
    replacing("provisions.csv", "DEMO-SR-001", "DEMO-SR-999")(folder)
    planned = reference.plan(session, reference.read(folder))
    assert [(fault.file, fault.line, fault.code) for fault in planned.faults] == [
        ("departments.csv", 11, "missing-value"),
        ("provisions.csv", 2, "unknown-item"),
        ("townships.csv", 29, "bad-date"),
        ("townships.csv", 29, "bad-date"),
    ]


@pytest.mark.parametrize("name", ["empty", "absent"])
def test_a_folder_without_reference_files_is_a_fault(tmp_path: Path, name: str) -> None:
    (tmp_path / "empty").mkdir()
    assert [fault.code for fault in reference.read(tmp_path / name).faults] == ["no-files"]


@pytest.mark.parametrize(
    ("file", "old", "new"),
    [
        ("townships.csv", "330109014,新街街道", "330109014,宁围街道"),
        ("departments.csv", "区规资分局", "区水务局"),
        ("enforcement_items.csv", "的处理(生态环境)", "的查处"),
        ("event_classes.csv", "09001,无照经营游商", "09001,流动摊贩"),
    ],
)
def test_a_code_that_is_stored_keeps_its_name(
    session: Session, folder: Path, now: dt.datetime, file: str, old: str, new: str
) -> None:
    load(session, folder, now)
    rewrite(folder, file, lambda text: text.replace(old, new))
    planned = reference.plan(session, reference.read(folder))
    assert {(fault.file, fault.code) for fault in planned.faults} >= {(file, "name-mismatch")}


def test_a_record_over_several_lines_counts_them_all(folder: Path) -> None:
    adding("departments.csv", '"D\n-1",x\nD-2,')(folder)
    faults = reference.read(folder).faults
    assert [(fault.line, fault.code) for fault in faults] == [(13, "missing-value")]


@given(cells=st.lists(st.text(max_size=8), min_size=7, max_size=7))
@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_whatever_a_cell_holds_is_read_or_told_but_never_raised(tmp_path: Path, cells: list[str]) -> None:
    out = io.StringIO()
    csv.writer(out).writerows([[column.name for column in sheets.TOWNSHIPS.columns], cells])
    (tmp_path / "townships.csv").write_bytes(out.getvalue().encode("utf-8", "surrogatepass"))
    read = reference.read(tmp_path)
    assert bool(read.faults) != bool(read.lines["townships.csv"])


# ---------------------------------------------------------------- the snapshot


def test_the_snapshot_answers_by_code_and_day(session: Session, lists: Path, now: dt.datetime) -> None:
    load(session, lists, now)
    found, areas = reference.snapshot(session)
    assert found.townships["330109007"].successor_code == "330114004"
    assert found.townships["330109007"].until_on == dt.date(2021, 4, 8)
    assert found.departments["DEMO-D-STHJ"] == "区生态环境分局"
    assert found.places["DEMO-DP-330109115-02"].township_code == "330109115"
    assert {("GB/T 47678.5-2026", "09001"), ("GB/T 30428.2-2013", "04-01")} <= found.event_classes
    (delegated,) = found.delegations["330109113", "DEMO-SR-001"]
    assert session.get_one(Delegation, delegated.id).item_code == "DEMO-SR-001"
    assert ("330109006", "DEMO-TD-001") not in found.delegations
    yinong = areas.locate(Position(120.58506, 30.19375, 5.0), DAY)
    assert (yinong.code, yinong.how, yinong.edition) == ("330109115", "inside", "demo-1")


def test_a_snapshot_is_read_once_per_version_and_anew_after_a_load(
    engine: Engine, folder: Path, now: dt.datetime
) -> None:
    with Session(engine) as session:
        load(session, folder, now)
        first = reference.snapshot(session)
    with count_statements(engine) as counted, Session(engine) as session:
        assert reference.snapshot(session) is first
    assert counted.statements == 1
    adding("departments.csv", "D-1,新部门")(folder)
    with Session(engine) as session:
        load(session, folder, now)
        assert reference.snapshot(session).lists.departments["D-1"] == "新部门"
        assert "D-1" not in first.lists.departments


# ---------------------------------------------------------------- the demo's lists


def test_the_lists_have_the_figures_of_the_articles(lists: Path) -> None:
    items = {row["code"]: row for row in rows(lists, "enforcement_items.csv")}
    by_township: dict[str, set[str]] = {}
    for row in rows(lists, "delegations.csv"):
        by_township.setdefault(row["township_name"], set()).add(row["item_code"])
    guali, nanyang, basic = by_township.pop("瓜沥镇"), by_township.pop("南阳街道"), by_township["益农镇"]
    assert len(by_township) + 2 == FACTS["district.township_teams"]
    assert all(codes == basic for codes in by_township.values())
    assert len(basic) == FACTS["items.delegated_to_townships"]
    comprehensive = [code for code in basic if items[code]["scope"] == "comprehensive"]
    assert len(comprehensive) == FACTS["items.delegated_comprehensive"]
    assert len(guali) == FACTS["guali.items"]
    assert len({items[code]["domain"] for code in guali}) == FACTS["guali.domains"]
    assert not guali <= basic
    assert len(nanyang) == FACTS["nanyang.items_first_batch"]
    assert nanyang < basic


def test_the_lists_hold_the_real_items_and_mark_the_others(lists: Path) -> None:
    real = {row["code"]: row for row in rows(CARRIED, "enforcement_items.csv")}
    found = {row["code"]: row for row in rows(lists, "enforcement_items.csv")}
    assert {code: found[code] for code in real} == real
    invented = [row for code, row in found.items() if code not in real]
    assert all(re.fullmatch(r"DEMO-X-\d{4}", row["code"]) and row["synthetic"] == "1" for row in invented)
    assert all(row["name"].endswith("（演示）") for row in invented)
    assert len({row["name"] for row in found.values()}) == len(found)


def test_the_same_seed_gives_the_same_lists_and_a_longer_one_begins_with_the_shorter(
    lists: Path, tmp_path: Path
) -> None:
    demo_list.write(tmp_path / "again")
    demo_list.write(tmp_path / "longer", size=600)
    for sheet in sheets.SHEETS:
        assert (tmp_path / "again" / sheet.file).read_bytes() == (lists / sheet.file).read_bytes()
    shorter, longer = (rows(folder, "enforcement_items.csv") for folder in (lists, tmp_path / "longer"))
    assert longer[: len(shorter)] == shorter


def test_the_whole_district_loads_in_seconds(session: Session, tmp_path: Path, now: dt.datetime) -> None:
    demo_list.write(tmp_path, size=FACTS["items.district_total"])
    began = time.perf_counter()
    done = load(session, tmp_path, now)
    assert time.perf_counter() - began < 20  # 2–3 s here; a statement per row takes minutes
    assert done.counts["enforcement_items.csv"].added == 5850
    assert done.counts["delegations.csv"].added == 7570
    assert session.scalar(select(func.count()).select_from(Provision)) == 5855


# ---------------------------------------------------------------- the documents


def test_every_column_stands_in_the_folders_readme() -> None:
    readme = (CARRIED / "README.md").read_text(encoding="utf-8").split("## The columns")[1]
    for sheet in sheets.SHEETS:
        row = next(line for line in readme.splitlines() if line.startswith(f"| {sheet.file} |"))
        columns, key = row.split("|")[2:4]
        named = re.findall(r"(\*\*)?\b([a-z_]+)\b(?:\*\*)?", re.sub(r"\(.*?\)|;.*", "", columns))
        assert [(name, bool(bold)) for bold, name in named] == [(c.name, c.required) for c in sheet.columns]
        assert tuple(re.findall(r"[a-z_]+", key)) == sheet.key


def test_every_township_has_an_area_and_a_place_within_it() -> None:
    lines = reference.read(CARRIED).lines
    current = {key[0] for key, line in lines["townships.csv"].items() if line.row["until_on"] is None}
    assert len(current) == FACTS["district.township_teams"]
    assert {line.row["township_code"] for line in lines[AREAS].values()} == current
    assert {line.row["township_code"] for line in lines[PLACES].values()} == current
    yinong = [line.row for line in lines[PLACES].values() if line.row["township_code"] == "330109115"]
    assert {row["geometry"]["type"] for row in yinong} == {"Point", "Polygon"}


def test_areas_are_kept_as_they_came(session: Session, now: dt.datetime) -> None:
    load(session, CARRIED, now)
    features = json.loads((CARRIED / AREAS).read_text(encoding="utf-8"))["features"]
    came = {feature["properties"]["township_code"]: feature["geometry"] for feature in features}
    stored = session.execute(select(TownshipArea.township_code, TownshipArea.geometry))
    assert {row.township_code: row.geometry for row in stored} == came
