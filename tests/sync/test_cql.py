"""CQL2 read as another reads it, and whatever is thrown at it."""

from __future__ import annotations

import json
import time
from typing import Any

import cql2
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import create_engine, literal_column
from sqlalchemy.orm import Session

from sync import cql
from sync.cql import Queryable
from sync.problems import QueryInvalid

QUERYABLES = {
    "kind": Queryable("string", literal_column("kind")),
    "ward": Queryable("integer", literal_column("ward")),
    "seen_at": Queryable("date-time", literal_column("seen_at", type_=cql.literal(cql.FIRST_AT).type)),
    "open": Queryable("boolean", literal_column("open")),
}
names = st.sampled_from(["kind", '"kind"'])
texts = st.text(st.characters(codec="utf-8", exclude_characters="\x00\r\n\\\\"), max_size=8).map(
    lambda text: "'" + text.replace("'", "''") + "'"
)
numbers = st.one_of(st.integers(-1000, 1000), st.floats(-1000, 1000).map(lambda x: round(x, 3))).map(str)
leaves = st.one_of(
    st.builds("{} {} {}".format, names, st.sampled_from(["=", "<>", "<", ">", "<=", ">="]), texts),
    st.builds("ward {} {}".format, st.sampled_from(["=", "<>", "<", ">", "<=", ">="]), numbers),
    st.builds("{} {}LIKE {}".format, names, st.sampled_from(["", "NOT "]), texts),
    st.builds("ward {}BETWEEN {} AND {}".format, st.sampled_from(["", "not "]), numbers, numbers),
    st.builds("ward {}IN ({},{})".format, st.sampled_from(["", "NOT "]), numbers, numbers),
    st.builds("CASEI({}) = casei({})".format, names, texts),
    st.builds("{} IS {}NULL".format, names, st.sampled_from(["", "NOT "])),
    st.builds("S_INTERSECTS(geometry,BBOX({},{},{},{}))".format, numbers, numbers, numbers, numbers),
    st.sampled_from(["open = TRUE", "seen_at > TIMESTAMP('2026-11-23T08:15:00Z')"]),
)
WORDS = ("(", ")", "AND", "OR", "NOT", "kind", "=", "'x'", "1", ",", "LIKE", "IN", "BETWEEN", "geometry", "BBOX")
filters = st.recursive(
    leaves,
    lambda inner: st.one_of(
        st.builds("({}) AND {}".format, inner, inner),
        st.builds("({} OR ({}))".format, inner, inner),
        st.builds("NOT ({})".format, inner),
    ),
    max_leaves=6,
)


def meaning(text: str, language: str = "cql2-text") -> str:
    """The SQL of a filter, values and all."""
    with Session(create_engine("sqlite://")) as session:
        drawn: list[Any] = []

        def meets(shape: Any) -> Any:
            drawn.append(shape)
            return literal_column(f"meets{shape}") == 1

        found = cql.condition(session, text, language, QUERYABLES, meets, geometry=literal_column("lon"))
        compiled = found.compile()
        return f"{compiled} {[str(value) for value in compiled.params.values()]}"


@settings(deadline=None)
@given(filters)
def test_text_means_what_its_json_means_as_another_parser_has_it(text: str) -> None:
    assert meaning(text) == meaning(json.dumps(cql2.parse_text(text).to_json()), "cql2-json")


@settings(deadline=None)
@given(st.one_of(st.text(max_size=60), st.lists(st.sampled_from(WORDS)).map(" ".join)))
def test_anything_else_is_refused_with_its_place(text: str) -> None:
    for language in ("cql2-text", "cql2-json"):
        try:
            meaning(text, language)
        except QueryInvalid as problem:
            (error,) = problem.details["errors"]
            at = error["at"]
            assert isinstance(at, str) or 0 <= at <= len(text)


@pytest.mark.parametrize(
    "text",
    [
        *("(" * 4000, "-" * 8000, "NOT " * 2000, "a=(" * 2000, "POINT(" * 1000, "x" * 8000, "'" * 8000, '"' * 7999),
        *("1^" * 3000, "CASEI(" * 1000, "ward IN (" + "1," * 3000, "ward=1 AND " * 700),
        "S_INTERSECTS(geometry,GEOMETRYCOLLECTION(" + "(" * 4000,
    ],
)
def test_a_filter_that_is_meant_to_hurt_is_refused_at_once(text: str) -> None:
    began = time.process_time()
    with pytest.raises(QueryInvalid):
        meaning(text)
    assert time.process_time() - began < 2


@pytest.mark.parametrize("value", ["[" * 5000, '{"op":"not","args":[' * 300 + "true" + "]}" * 300])
def test_so_is_one_in_json(value: str) -> None:
    with pytest.raises(QueryInvalid):
        meaning(value, "cql2-json")
