"""CQL2 (OGC 21-065r2), text and JSON, to conditions of SQL. What can be asked about is given, nothing else is known.

What works: AND, OR, NOT; = <> < > <= >= between properties and literals, either way round; LIKE, BETWEEN, IN; IS NULL;
CASEI; S_INTERSECTS with any geometry and BBOX; TIMESTAMP and DATE. Both languages are read into the same tree, whose
parts know where they stood: in the text as an index from 0, in JSON as a pointer (RFC 6901). lark reads the grammar in
time that grows with the length; `cql2` (in Rust) takes seconds for twenty open brackets, and keeps no places.
"""

from __future__ import annotations

import datetime as dt
import math
import operator
import re
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any, NoReturn, cast

import orjson
import shapely
from lark import Lark, Token, Transformer, UnexpectedInput
from sqlalchemy import and_, false, func, literal, not_, null, or_, true
from sqlalchemy.orm import Session
from sqlalchemy.sql import ColumnElement

from sync.models import is_like
from sync.problems import QueryInvalid

#: Characters of a filter, parts inside each other, and parts at all. ESTIMATE: gunicorn takes 8,190 bytes at most.
MOST_CHARS, MOST_DEPTH, MOST_PARTS = 8_000, 60, 1_000
#: Instants are told to the millisecond, and compared as they are told.
TOLD = dt.timedelta(milliseconds=1)
#: The first and the last instant that can be compared with; what lies beyond is as good as these.
FIRST_AT = dt.datetime.min.replace(tzinfo=dt.UTC)
LAST_AT = dt.datetime(9999, 12, 31, 23, 59, 59, 998_000, dt.UTC)

Where = int | str
Condition = ColumnElement[bool]
#: The condition that a feature's geometry meets this shape, which is given in the filter's coordinate system.
Meets = Callable[[Any], Condition]


@dataclass(frozen=True)
class Queryable:
    """What can be asked about: its kind (`string`, `number`, `integer`, `boolean`, `uuid`, `date`, `date-time`) and its
    SQL."""

    kind: str
    column: ColumnElement[Any]


@dataclass(frozen=True)
class Name:
    """A property, by name."""

    name: str
    at: Where


@dataclass(frozen=True)
class Value:
    """A literal: text, a number, true or false."""

    value: Any
    at: Where


@dataclass(frozen=True)
class Shape:
    """A geometry, in the filter's coordinate system."""

    shape: Any
    at: Where


@dataclass(frozen=True)
class Call:
    """An operator or function, in small letters, and what it is applied to."""

    op: str
    args: tuple[Node, ...]
    at: Where


Node = Name | Value | Shape | Call


def wrong(at: Where, why: str) -> NoReturn:
    """Raises QueryInvalid that says where in the filter what is wrong."""
    raise QueryInvalid.of("filter", why, at=at)


# ---------------------------------------------------------------- instants


_INSTANT = re.compile(r"(\d{4})-(\d\d)-(\d\d)[Tt](\d\d):(\d\d):(\d\d)(?:\.(\d{1,20}))?([Zz]|[+-]\d\d:\d\d)", re.ASCII)


def instant(text: str) -> dt.datetime:
    """The instant of an RFC 3339 date-time. Year 0000, which no calendar here knows, is the first instant there is.

    Raises ValueError.
    """
    found = _INSTANT.fullmatch(text)
    if found is None:
        raise ValueError("no date-time of RFC 3339")
    year, month, day, hour, minute, second = map(int, found.groups()[:6])
    microsecond = int((found[7] or "0").ljust(6, "0")[:6])
    zone = dt.UTC if found[8] in "Zz" else dt.datetime.strptime(found[8], "%z").tzinfo
    told = dt.datetime(year or 4, month, day, hour, minute, second, microsecond, zone)  # 0000 was a leap year, as was 4
    if year == 0:
        return FIRST_AT
    try:
        return min(told.astimezone(dt.UTC), LAST_AT)
    except OverflowError:
        return FIRST_AT if year < 2000 else LAST_AT


# ---------------------------------------------------------------- reading text

_GRAMMAR = r"""
    start: _or
    _or: either | _and
    either: _or _OR _and
    _and: both | _not
    both: _and _AND _not
    _not: negated | _predicate
    negated: NOT _not
    _predicate: compared | like | between | among | is_null | _scalar
    compared: _scalar COMPARISON _scalar
    like: _scalar [NOT] _LIKE _scalar
    between: _scalar [NOT] _BETWEEN _scalar _AND _scalar
    among: _scalar [NOT] _IN "(" _scalar ("," _scalar)* ")"
    is_null: _scalar _IS [NOT] _NULL
    _scalar: name | quoted | text | number | flag | call | geometry | "(" _or ")"
    name: NAME
    quoted: QUOTED
    text: TEXT
    number: NUMBER
    flag: FLAG
    call: NAME "(" (_or ("," _or)*)? ")"
    geometry: _drawn
    _drawn: GEOMETRY DIMENSION? _group
    _group: OPEN _member (COMMA _member)* CLOSE
    _member: NUMBER+ | _group | _drawn

    _AND.2: /AND(?![\w.:])/i
    _OR.2: /OR(?![\w.:])/i
    NOT.2: /NOT(?![\w.:])/i
    _LIKE.2: /LIKE(?![\w.:])/i
    _BETWEEN.2: /BETWEEN(?![\w.:])/i
    _IN.2: /IN(?![\w.:])/i
    _IS.2: /IS(?![\w.:])/i
    _NULL.2: /NULL(?![\w.:])/i
    FLAG.2: /(?:TRUE|FALSE)(?![\w.:])/i
    DIMENSION.2: /Z(?![\w.:])/i
    GEOMETRY.2: /(?:(?:MULTI)?(?:POINT|LINESTRING|POLYGON)|GEOMETRYCOLLECTION)(?=\s*(?:Z\s*)?\()/i
    COMPARISON: "<>" | "<=" | ">=" | "<" | ">" | "="
    OPEN: "("
    CLOSE: ")"
    COMMA: ","
    NAME: /[^\W\d][\w.:]*/
    QUOTED: /"(?:[^"]|"")+"/
    TEXT: /'(?:[^']|'')*'/
    NUMBER: /[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?/
    %ignore /\s+/
"""


class _Read(Transformer[Token, Node]):
    """The tree of a filter's text, made while it is read: nothing here calls itself."""

    def start(self, parts: list[Node]) -> Node:
        return parts[0]

    def either(self, parts: list[Node]) -> Node:
        return _chained("or", *parts)

    def both(self, parts: list[Node]) -> Node:
        return _chained("and", *parts)

    def negated(self, parts: list[Any]) -> Node:
        return Call("not", (parts[1],), parts[0].start_pos)

    def compared(self, parts: list[Any]) -> Node:
        return Call(str(parts[1]), (parts[0], parts[2]), parts[0].at)

    def like(self, parts: list[Any]) -> Node:
        return _perhaps_not("like", parts)

    def between(self, parts: list[Any]) -> Node:
        return _perhaps_not("between", parts)

    def among(self, parts: list[Any]) -> Node:
        return _perhaps_not("in", parts)

    def is_null(self, parts: list[Any]) -> Node:
        return _perhaps_not("isnull", parts)

    def name(self, parts: list[Token]) -> Node:
        return Name(str(parts[0]), _start(parts[0]))

    def quoted(self, parts: list[Token]) -> Node:
        return Name(parts[0][1:-1].replace('""', '"'), _start(parts[0]))

    def text(self, parts: list[Token]) -> Node:
        return Value(parts[0][1:-1].replace("''", "'"), _start(parts[0]))

    def number(self, parts: list[Token]) -> Node:
        return Value(_number(parts[0]), _start(parts[0]))

    def flag(self, parts: list[Token]) -> Node:
        return Value(parts[0].lower() == "true", _start(parts[0]))

    def call(self, parts: list[Any]) -> Node:
        return Call(parts[0].lower(), tuple(parts[1:]), parts[0].start_pos)

    def geometry(self, parts: list[Token]) -> Node:
        return Shape(_from_wkt(" ".join(parts)), _start(parts[0]))


def _start(token: Token) -> int:
    return token.start_pos or 0


def _chained(op: str, left: Node, right: Node) -> Node:
    """One call for `a AND b AND c`, however long it is."""
    before = left.args if isinstance(left, Call) and left.op == op else (left,)
    return Call(op, (*before, right), left.at)


def _perhaps_not(op: str, parts: list[Any]) -> Node:
    about, negation, *rest = parts
    call = Call(op, (about, *rest), about.at)
    return call if negation is None else Call("not", (call,), about.at)


def _number(text: str) -> int | float:
    return int(text) if _WHOLE.fullmatch(text) else float(text)


def _from_wkt(text: str) -> Any:
    try:
        return shapely.from_wkt(text)
    except shapely.GEOSException:
        return None


_WHOLE = re.compile(r"[-+]?[0-9]{1,15}")


@cache
def _parser() -> Lark:
    return Lark(_GRAMMAR, parser="lalr", maybe_placeholders=True, transformer=_Read())


def _read_text(text: str) -> Node:
    try:
        return cast(Node, _parser().parse(text))
    except UnexpectedInput as error:
        token = getattr(error, "token", None)
        if token is not None and token.type == "$END":
            wrong(len(text), "something is missing at the end")
        at = error.pos_in_stream or 0
        wrong(at, f"unexpected {(token or text[at : at + 1])!s}")


# ---------------------------------------------------------------- reading JSON


def _read_json(text: str) -> Node:
    try:
        value = orjson.loads(text)
    except orjson.JSONDecodeError as error:
        wrong(error.pos, "not JSON")
    return _from_json(value, "", 0)


def _from_json(value: Any, at: str, depth: int) -> Node:
    if depth > MOST_DEPTH:
        wrong(at, f"more than {MOST_DEPTH} parts inside each other")
    if isinstance(value, bool | int | float | str):
        return Value(value, at)
    if not isinstance(value, dict):
        wrong(at, "neither an operator, a property nor a value")
    if isinstance(value.get("op"), str):
        return _call_from_json(value, at, depth)
    (kind, told), *more = value.items() or [("", None)]
    if not more and kind == "property" and isinstance(told, str):
        return Name(told, at)
    if not more and kind in ("timestamp", "date"):
        return Call(kind, (Value(told, at),), at)
    if not more and kind == "bbox" and isinstance(told, list):
        return Call(kind, tuple(Value(number, at) for number in told), at)
    if "type" in value:
        return Shape(_from_geojson(value), at)
    wrong(at, "neither an operator, a property nor a value")


def _call_from_json(value: dict[str, Any], at: str, depth: int) -> Node:
    op, args = value["op"].lower(), value.get("args")
    if not isinstance(args, list):
        wrong(at, "args are a list")
    if op == "in" and len(args) == 2 and isinstance(args[1], list):
        listed = tuple(_from_json(each, f"{at}/args/1/{n}", depth + 1) for n, each in enumerate(args[1]))
        return Call(op, (_from_json(args[0], f"{at}/args/0", depth + 1), *listed), at)
    return Call(op, tuple(_from_json(each, f"{at}/args/{n}", depth + 1) for n, each in enumerate(args)), at)


def _from_geojson(value: dict[str, Any]) -> Any:
    try:
        return shapely.from_geojson(orjson.dumps(value))
    except (shapely.GEOSException, TypeError):
        return None


# ---------------------------------------------------------------- what it means

_SIGNS: Mapping[str, Callable[[Any, Any], Condition]] = {
    "=": operator.eq,
    "<>": operator.ne,
    "<": operator.lt,
    ">": operator.gt,
    "<=": operator.le,
    ">=": operator.ge,
}
#: What is said of `left < right` from the other side.
_TURNED = {"=": "=", "<>": "<>", "<": ">", ">": "<", "<=": ">=", ">=": "<="}
#: How many arguments each operator takes at least and at most.
_TAKES: Mapping[str, tuple[int, int]] = {
    **dict.fromkeys(_SIGNS, (2, 2)),
    **{"and": (2, MOST_PARTS), "or": (2, MOST_PARTS), "not": (1, 1), "isnull": (1, 1), "like": (2, 2)},
    **{"between": (3, 3), "in": (2, MOST_PARTS), "s_intersects": (2, 2), "casei": (1, 1)},
    **{"timestamp": (1, 1), "date": (1, 1), "bbox": (4, 6)},
}


@dataclass(frozen=True)
class _Scalar:
    """A value of SQL and its kind; `given` is what a literal says."""

    kind: str
    sql: Any
    given: Any = None


def condition(
    session: Session,
    text: str,
    language: str,
    queryables: Mapping[str, Queryable],
    meets: Meets,
    *,
    geometry: ColumnElement[Any],
) -> Condition:
    """The condition that a filter in `cql2-text` or `cql2-json` asks for.

    `geometry` is NULL in SQL where a feature has none. Raises QueryInvalid that says where in the filter what is wrong.
    """
    if len(text) > MOST_CHARS:
        wrong(MOST_CHARS, f"longer than {MOST_CHARS} characters")
    if "\x00" in text:
        wrong(text.index("\x00"), "no text that is kept anywhere")
    tree = _read_text(text) if language == "cql2-text" else _read_json(text)
    return _Meaning(session, queryables, meets, geometry).condition(tree, 0)


def equals(session: Session, queryable: Queryable, text: str) -> Condition:
    """The condition that a property has the value that this text means. Raises QueryInvalid, ValueError."""
    kinds: Mapping[str, Callable[[str], Node]] = {
        "string": lambda told: Value(told, ""),
        "uuid": lambda told: Value(told, ""),
        "number": lambda told: Value(float(told), ""),
        "integer": lambda told: Value(int(told), ""),
        "boolean": lambda told: Value({"true": True, "false": False}[told], ""),
        "date": lambda told: Call("date", (Value(told, ""),), ""),
        "date-time": lambda told: Call("timestamp", (Value(told, ""),), ""),
    }
    named = {"it": queryable}
    meaning = _Meaning(session, named, lambda _: false(), null())
    return meaning.condition(Call("=", (Name("it", ""), kinds[queryable.kind](text)), ""), 0)


class _Meaning:
    """What a tree means for features that can be asked about like this."""

    def __init__(
        self, session: Session, queryables: Mapping[str, Queryable], meets: Meets, geometry: ColumnElement[Any]
    ) -> None:
        self._session, self._queryables, self._meets, self._geometry = session, queryables, meets, geometry
        self._parts = 0

    def condition(self, node: Node, depth: int) -> Condition:
        if depth > MOST_DEPTH:
            wrong(node.at, f"more than {MOST_DEPTH} parts inside each other")
        if isinstance(node, Value) and isinstance(node.value, bool):
            return true() if node.value else false()
        if not isinstance(node, Call):
            return self._flag(node)
        self._check(node)
        if node.op in ("and", "or", "not"):
            parts = [self.condition(arg, depth + 1) for arg in node.args]
            return not_(parts[0]) if node.op == "not" else (and_ if node.op == "and" else or_)(*parts)
        told = {"like": self._like, "between": self._between, "in": self._among, "isnull": self._is_null}
        told["s_intersects"] = self._intersects
        if node.op in told:
            return told[node.op](node)
        if node.op not in _SIGNS:
            wrong(node.at, f"{node.op} is no condition")
        left, right = map(self._scalar, node.args)
        return self._compared(node.op, left, right, node.at)

    def _check(self, node: Call) -> None:
        self._parts += len(node.args)
        if self._parts > MOST_PARTS:
            wrong(node.at, f"more than {MOST_PARTS} parts")
        if node.op not in _TAKES:
            wrong(node.at, f"no operator or function {node.op[:40]} is known here")
        least, most = _TAKES[node.op]
        if not least <= len(node.args) <= most:
            wrong(node.at, f"{node.op} takes {least}" + (f" to {most}" if most != least else "") + " arguments")

    def _flag(self, node: Node) -> Condition:
        found = self._scalar(node)
        if found.kind != "boolean":
            wrong(node.at, "not true or false")
        return cast(Condition, found.sql)

    # ------------------------------------------------ values

    def _scalar(self, node: Node) -> _Scalar:
        if isinstance(node, Value):
            return _literal(node)
        if isinstance(node, Name):
            return self._property(node)
        if isinstance(node, Shape):
            wrong(node.at, "a geometry can't be compared")
        self._check(node)
        if node.op == "casei":
            inner = self._scalar(node.args[0])
            if inner.kind != "string":
                wrong(node.args[0].at, "CASEI is for texts")
            return _Scalar("string", func.lower(inner.sql), inner.given)
        if node.op in ("timestamp", "date"):
            return _moment(node)
        wrong(node.at, f"{node.op} is no value")

    def _property(self, node: Name) -> _Scalar:
        found = self._queryables.get(node.name)
        if found is None:
            wrong(node.at, f"there is no property {node.name[:80]!r} to ask about")
        return _Scalar("number" if found.kind == "integer" else found.kind, found.column)

    # ------------------------------------------------ predicates

    def _compared(self, sign: str, left: _Scalar, right: _Scalar, at: Where) -> Condition:
        if left.given is not None and right.given is None:
            return self._compared(_TURNED[sign], right, left, at)
        left, right = _alike(left, right, at)
        if left.kind == "boolean" and sign not in ("=", "<>"):
            wrong(at, "true and false have no order")
        if left.kind == "date-time" and right.given is not None:
            return _at_instant(sign, left.sql, right.given)
        return _SIGNS[sign](left.sql, right.sql)

    def _like(self, node: Call) -> Condition:
        about, pattern = map(self._scalar, node.args)
        if about.kind != "string" or about.given is not None:
            wrong(node.args[0].at, "LIKE is for properties that are texts")
        if pattern.kind != "string" or pattern.given is None:
            wrong(node.args[1].at, "LIKE wants a text as its pattern")
        if _ENDS_ESCAPING.search(pattern.given):
            wrong(node.args[1].at, "the pattern ends with the sign that escapes")
        return is_like(self._session, about.sql, pattern.given, caseless=isinstance(node.args[1], Call))

    def _between(self, node: Call) -> Condition:
        about, least, most = map(self._scalar, node.args)
        bounds = ((">=", least), ("<=", most))
        return and_(*(self._compared(sign, about, bound, node.at) for sign, bound in bounds))

    def _among(self, node: Call) -> Condition:
        about, *values = map(self._scalar, node.args)
        return or_(*(self._compared("=", about, value, node.at) for value in values))

    def _is_null(self, node: Call) -> Condition:
        (about,) = node.args
        if not isinstance(about, Name):
            wrong(about.at, "IS NULL is asked of a property")
        return (self._geometry if about.name == "geometry" else self._property(about).sql).is_(None)

    def _intersects(self, node: Call) -> Condition:
        first, second = node.args
        if isinstance(second, Name):
            first, second = second, first
        if not isinstance(first, Name) or first.name != "geometry":
            wrong(first.at, "S_INTERSECTS is asked of the property geometry and a geometry that is given")
        return self._meets(self._shape(second))

    def _shape(self, node: Node) -> Any:
        if isinstance(node, Call) and node.op == "bbox":
            self._check(node)
            return _corners(node)
        if not isinstance(node, Shape):
            wrong(node.at, "no geometry")
        drawn = node.shape
        if drawn is None or drawn.is_empty or not math.isfinite(sum(drawn.bounds)) or not drawn.is_valid:
            wrong(node.at, "no valid geometry")
        return shapely.force_2d(drawn)


_ENDS_ESCAPING = re.compile(r"(?<!\\)(?:\\\\)*\\\Z")


def _literal(node: Value) -> _Scalar:
    value = node.value
    if isinstance(value, bool):
        return _Scalar("boolean", literal(value), value)
    if isinstance(value, int | float):
        if not math.isfinite(value):
            wrong(node.at, "no number that can be compared")
        return _Scalar("number", literal(float(value)), value)
    if not isinstance(value, str) or "\x00" in value:
        wrong(node.at, "no text that is kept anywhere")
    return _Scalar("string", literal(value), value)


def _moment(node: Call) -> _Scalar:
    (told,) = node.args
    text = told.value if isinstance(told, Value) else None
    try:
        if node.op == "timestamp":
            return _Scalar("date-time", None, instant(text or ""))
        day = dt.date.fromisoformat(text or "")
        return _Scalar("date", literal(day), day)
    except (ValueError, TypeError) as error:
        wrong(told.at, f"{node.op.upper()} wants a text like {_LIKE_THIS[node.op]}: {error}")


_LIKE_THIS = {"timestamp": "2026-11-23T08:15:00Z", "date": "2026-11-23"}


def _alike(left: _Scalar, right: _Scalar, at: Where) -> tuple[_Scalar, _Scalar]:
    """The two as things that can be compared."""
    if left.kind == "uuid" and right.kind == "string" and right.given is not None:
        try:
            right = _Scalar("uuid", literal(uuid.UUID(right.given), left.sql.type), right.given)
        except ValueError:
            wrong(at, "compared with something that is no UUID")
    if left.kind != right.kind:
        wrong(at, f"a {left.kind} can't be compared with a {right.kind}")
    if left.given is not None and left.kind == "date-time":
        wrong(at, "two instants that are given need no comparison")
    return left, right


def _at_instant(sign: str, column: Any, at: dt.datetime) -> Condition:
    """Compares instants as they are told: those of one millisecond are equal."""
    least, beyond = (literal(edge, column.type) for edge in (at, at + TOLD))
    means: Mapping[str, Condition] = {
        "=": and_(column >= least, column < beyond),
        "<>": or_(column < least, column >= beyond),
        "<": column < least,
        ">=": column >= least,
        ">": column >= beyond,
        "<=": column < beyond,
    }
    return means[sign]


def _corners(node: Call) -> tuple[float, ...]:
    """The corners of a BBOX, heights left out: four numbers, which the coordinate system makes a shape of."""
    numbers = [arg.value for arg in node.args if isinstance(arg, Value) and isinstance(arg.value, int | float)]
    if len(numbers) not in (4, 6) or len(numbers) != len(node.args):
        wrong(node.at, "BBOX wants four or six numbers")
    corners = numbers if len(numbers) == 4 else [numbers[i] for i in (0, 1, 3, 4)]
    return tuple(map(float, corners))
