"""Who may know whom: `sync/` never heard of Flask, `field_api/` writes no SQL, arrows run one way."""

from __future__ import annotations

import ast

import pytest

from tests.house.source import calls, circles, graph, imports, modules, roots

#: The rooms of `sync/` from the ground up; nobody knows the same floor or one above.
LAYERS = (
    {"problems", "exif", "containers"}  # what may go wrong; what the bytes of a photo say
    | {"names", "fellegi_sunter", "grouping"},  # how people write; how evidence adds up; what is one thing with what
    {"models", "store", "pictures", "clock", "places", "revisions", "enforcement", "standing"}  # kept; decided
    | {"estimation", "projections", "projjson"},  # how weights are learned; where a position is in another system
    {"wire", "sheets", "journal", "photo_notes", "cql"}  # what comes in, what is recorded, what is asked
    | {"likeness", "again"},  # what resembles
    {"verdicts", "shapes", "vendors", "groups"},  # what becomes of an operation; what goes out; what is one thing
    {"patrol_log", "carried", "vendor_shapes"}  # who may see what; what a phone takes along; what a vendor looks like
    | {"resemblances", "acquaintance", "cursors"},  # what resembles what; which vendors may be whom; how far one read
    {"vendor_log", "alike", "layers"}  # what vendors were warned of; which pairs wait for whom; what maps read
    | {"columns"},  # what a file holds
    {"settling", "installations", "formats"},  # operations settled; what phones owe; how a file is written
    {"inbox"},  # what waits for whom
    {"intake", "uploads", "photos", "darkroom", "reference", "accounts"}  # act
    | {"access_log", "evidence", "export", "inventory", "review", "answered", "changes", "features"}
    | {"ledger", "jobs"}
    | {"group_review", "reappraisal", "learning", "vendor_cards"},
)
LAYER = {f"sync.{room}": floor for floor, rooms in enumerate(LAYERS) for room in rooms}

#: Deciders: the same answer for the same arguments, whatever a database or a disk says.
DECIDERS = (
    *("clock", "places", "revisions", "enforcement", "standing", "photo_notes", "verdicts"),
    *("names", "fellegi_sunter", "estimation", "likeness", "grouping", "vendors", "projections", "projjson"),
)
#: What asks, keeps or sends something.
OUTSIDE = {"sqlalchemy", "marshmallow", "os", "pathlib", "flask", "werkzeug"}
KEEPERS = {"sync.models", "sync.store", "sync.journal"}

#: What every file of the door may stand on, besides the engine.
GROUND_FLOOR = {
    *("settings", "database", "storage", "identity", "answers", "bodies", "origins", "once", "yardstick", "behind"),
    "taken_out",
}

#: All the door has to know of SQLAlchemy: what it hands on to the engine, and what that may raise.
HANDED_ON = {"sqlalchemy.orm", "sqlalchemy.orm.Session", "sqlalchemy.exc", "sqlalchemy.exc.SQLAlchemyError"}

ENGINE = modules("sync")
DOOR = modules("field_api")
NOUNS = sorted(DOOR.keys() - {f"field_api.{name}" for name in GROUND_FLOOR | {"app"}} - {"field_api"})


def test_every_room_of_the_engine_has_a_floor() -> None:
    homeless = ENGINE.keys() - LAYER.keys() - {"sync"}
    assert not homeless, f"give {homeless} a floor in LAYERS, and a line in sync/README.md"


@pytest.mark.parametrize("name", sorted(LAYER.keys() & ENGINE.keys()))
def test_a_room_of_the_engine_knows_only_floors_below_its_own(name: str) -> None:
    known = graph(ENGINE)[name]
    assert {other for other in known if LAYER[other] >= LAYER[name]} == set()


@pytest.mark.parametrize("package", ["sync", "field_api"])
def test_no_module_imports_itself_by_way_of_others(package: str) -> None:
    assert circles(graph(modules(package))) == set()


@pytest.mark.parametrize("name", sorted(ENGINE))
def test_the_engine_never_heard_of_the_door(name: str) -> None:
    assert roots(imports(ENGINE[name])).isdisjoint({"flask", "werkzeug", "field_api"})


@pytest.mark.parametrize("name", DECIDERS)
def test_a_decider_asks_nobody(name: str) -> None:
    asked = imports(ENGINE[f"sync.{name}"])
    assert roots(asked) & OUTSIDE == set()
    assert asked & KEEPERS == set()


@pytest.mark.parametrize("name", sorted(DOOR.keys() - {"field_api.database"}))
def test_the_door_writes_no_sql(name: str) -> None:
    used = {used for used in imports(DOOR[name]) if roots({used}) & {"sqlalchemy", "psycopg", "sqlite3"}}
    assert used <= HANDED_ON


def test_only_views_and_commands_commit() -> None:
    trees = ENGINE | DOOR
    trees.pop("sync.models")  # ends what it sets up on a connection that is new
    assert {name for name, tree in trees.items() if calls(tree, "commit")} <= set(NOUNS)


@pytest.mark.parametrize("name", NOUNS)
def test_a_noun_of_the_door_knows_the_ground_floor_and_the_engine_but_no_other_noun(name: str) -> None:
    assert graph(DOOR)[name] <= {f"field_api.{ground}" for ground in GROUND_FLOOR}


def test_the_app_imports_every_noun_at_its_top() -> None:
    app = DOOR["field_api.app"]
    top = set().union(*(imports(node) for node in app.body if isinstance(node, ast.ImportFrom)))
    assert set(NOUNS) <= top


def test_the_guards_see_every_way_to_import() -> None:
    tree = ast.parse("import a.b\nfrom c import d\ndef f():\n    from e.f import g")
    assert imports(tree) >= {"a.b", "c.d", "e.f"}
    assert roots(imports(tree)) == {"a", "c", "e"}


def test_the_guards_see_a_circle() -> None:
    assert circles({"a": {"b"}, "b": {"c"}, "c": {"b"}, "d": {"a"}}) == {"b", "c"}
