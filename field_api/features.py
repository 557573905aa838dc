"""OGC API – Features at `/ogc`, for QGIS, ArcGIS, GDAL and browsers: layers that are always current.

Parts 1, 2 and 3; what exactly stands in `CONFORMANCE`. Everything exists as JSON and as a page for people. Who asks
shows an access token as HTTP Basic or Bearer, or has signed in; what the service consists of is open to anyone.
"""

from __future__ import annotations

import datetime as dt
import hashlib
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

import orjson
from flask import Response, render_template, request, send_from_directory
from flask_smorest import Blueprint
from sqlalchemy.orm import Session

from field_api.database import db
from field_api.identity import public, roles
from sync import features, layers, projections
from sync.layers import LAYERS, Layer
from sync.models import ROLES, SignedIn, begin_read
from sync.problems import NotFound, QueryInvalid
from sync.projections import CRS84

blueprint = Blueprint("features", __name__, url_prefix="/ogc", description="Layers for maps (OGC API – Features)")

_JSON, _GEOJSON, _SCHEMA, _HTML = "application/json", "application/geo+json", "application/schema+json", "text/html"
#: To the letter: clients look for it.
_OPENAPI = "application/vnd.oai.openapi+json;version=3.0"
_REL = "http://www.opengis.net/def/rel/ogc/1.0"
_SPEC = "http://www.opengis.net/spec"
#: What works, by the names of its classes of requirements; QGIS knows one of them by an older name only.
CONFORMANCE = (
    *(f"{_SPEC}/ogcapi-features-1/1.0/conf/{name}" for name in ("core", "geojson", "html", "oas30")),
    f"{_SPEC}/ogcapi-features-2/1.0/conf/crs",
    *(f"{_SPEC}/ogcapi-features-3/1.0/conf/{name}" for name in ("filter", "features-filter")),
    *(f"{_SPEC}/ogcapi-features-3/1.0/conf/{name}" for name in ("queryables", "queryables-query-parameters")),
    f"{_SPEC}/ogcapi-features-5/1.0/conf/schemas",
    *(f"{_SPEC}/cql2/1.0/conf/{name}" for name in ("cql2-text", "cql2-json", "basic-cql2", "property-property")),
    *(f"{_SPEC}/cql2/1.0/conf/{name}" for name in ("advanced-comparison-operators", "case-insensitive-comparison")),
    *(f"{_SPEC}/cql2/1.0/conf/{name}" for name in ("basic-spatial-functions", "basic-spatial-functions-plus")),
    f"{_SPEC}/cql2/1.0/conf/basic-spatial-operators",
)
TITLE = "Field API · 萧山区巡查"
_ABOUT = "What enforcement officers in the townships of Xiaoshan District, Hangzhou, record on patrol."
#: Pages take their style from here, and nothing else from anywhere.
_PAGE_POLICY = "default-src 'none'; style-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
_OWN_FILES = Path(__file__).parent / "static" / "ogc"

Json = dict[str, Any]


def _answers(*types: str) -> Any:
    """Says in the API document what a view answers; the service's own document says more."""
    content = {type: {"schema": {"type": "object"}} for type in types}
    return Blueprint.doc(responses={200: {"description": "OK", "content": content}, 400: "BAD_REQUEST"})


# ---------------------------------------------------------------- the service


@blueprint.route("/")
@blueprint.route("")
@public
@_answers(_JSON, _HTML)
def get_landing_page() -> Response:
    """What the service consists of."""
    _refuse_others()
    root = _root()
    links = [
        *_both_ways(f"{root}/"),
        _link("service-desc", _OPENAPI, f"{root}/api", "the API document (OpenAPI 3.0)"),
        _link("service-doc", _HTML, f"{_address()}/api/docs", "the API document as a page"),
        _link("conformance", _JSON, f"{root}/conformance", "what works"),
        _link("data", _JSON, f"{root}/collections", "the collections"),
    ]
    if _is_page():
        return _page(TITLE, _ABOUT, links=links)
    return _written({"title": TITLE, "description": _ABOUT, "links": links})


@blueprint.route("/conformance")
@public
@_answers(_JSON, _HTML)
def get_conformance() -> Response:
    """What of the standards works."""
    _refuse_others()
    if _is_page():
        return _page("Conformance", rows=[[uri] for uri in CONFORMANCE])
    return _written({"conformsTo": CONFORMANCE, "links": _both_ways(f"{_root()}/conformance")})


@blueprint.route("/style.css")
@public
@blueprint.response(200, content_type="text/css", description="A style")
def get_style() -> Response:
    """How the pages look."""
    return send_from_directory(_OWN_FILES, "style.css", max_age=3600)


# ---------------------------------------------------------------- collections


@blueprint.route("/collections")
@roles(*ROLES, program=True)
@_answers(_JSON, _HTML)
def list_collections(who: SignedIn) -> Response:
    """The collections."""
    _refuse_others()
    session = _reading()
    described = [_collection(session, layer) for layer in LAYERS.values()]
    session.rollback()
    href = f"{_root()}/collections"
    if _is_page():
        rows = [[(each["title"], f"{href}/{each['id']}?f=html"), each["description"]] for each in described]
        return _page("Collections 图层", rows=rows)
    return _written({"links": _both_ways(href), "crs": list(projections.SPOKEN), "collections": described})


@blueprint.route("/collections/<collection>")
@roles(*ROLES, program=True)
@_answers(_JSON, _HTML)
def get_collection(who: SignedIn, collection: str) -> Response:
    """One collection: where and when, in which coordinate systems, where its features are."""
    layer = _layer(collection)
    _refuse_others()
    session = _reading()
    described = _collection(session, layer)
    session.rollback()
    if _is_page():
        return _page(layer.title, layer.description, links=described["links"], rows=_lines(described))
    return _written(described)


@blueprint.route("/collections/<collection>/queryables")
@roles(*ROLES, program=True)
@_answers(_SCHEMA, _HTML)
def get_queryables(who: SignedIn, collection: str) -> Response:
    """What a filter may ask about, as JSON Schema."""
    return _schema(_layer(collection), "queryables", queryable=True)


@blueprint.route("/collections/<collection>/schema")
@roles(*ROLES, program=True)
@_answers(_SCHEMA, _HTML)
def get_schema(who: SignedIn, collection: str) -> Response:
    """What the features of a collection hold, as JSON Schema."""
    return _schema(_layer(collection), "schema", queryable=False)


def _schema(layer: Layer, name: str, *, queryable: bool) -> Response:
    _refuse_others()
    described = layers.schema(layer, f"{_root()}/collections/{layer.id}/{name}", queryable=queryable)
    if _is_page():
        told = described["properties"].items()
        rows = [[name, each["title"], each.get("format") or each.get("type", "")] for name, each in told]
        return _page(f"{layer.title}: {name}", rows=rows)
    return _written(described, _SCHEMA)


def _layer(id: str) -> Layer:
    if id not in LAYERS:
        raise NotFound
    return LAYERS[id]


def _collection(session: Session, layer: Layer) -> Json:
    box, began = features.extent(session, layer)
    href = f"{_root()}/collections/{layer.id}"
    links = [
        *_both_ways(href),
        _link("items", _GEOJSON, f"{href}/items", "the features"),
        _link("items", _HTML, f"{href}/items?f=html", "the features as pages"),
        _link(f"{_REL}/queryables", _SCHEMA, f"{href}/queryables", "what a filter may ask about"),
        _link(f"{_REL}/schema", _SCHEMA, f"{href}/schema", "what features hold"),
    ]
    return {
        "id": layer.id,
        "title": layer.title,
        "description": layer.description,
        "itemType": "feature",
        "extent": {"spatial": {"bbox": [box], "crs": CRS84.uri}, "temporal": {"interval": [[began, None]]}},
        "crs": list(projections.SPOKEN),
        "storageCrs": CRS84.uri,
        "links": links,
    }


# ---------------------------------------------------------------- features


@blueprint.route("/collections/<collection>/items")
@roles(*ROLES, program=True)
@_answers(_GEOJSON, _HTML)
def list_features(who: SignedIn, collection: str) -> Response:
    """Features of a collection that you may see, a page at a time; records newest first."""
    layer = _layer(collection)
    asked = features.read(layer, _said())
    session = _reading()
    if answer := _unchanged(session, who):
        return answer
    page = features.page(session, who, layer, asked, _address())
    _end(session, suits_all=not asked.given)
    following = None
    if page.next is not None:
        kept = [(name, text) for name, text in _query() if name != "cursor"]
        following = _here([*kept, ("cursor", page.next)])
    answer = _items_page(layer, page, following) if _is_page() else _items(layer, page, following)
    return _marked(answer, who, asked.crs, page.state)


def _items(layer: Layer, page: features.Page, following: str | None) -> Response:
    links = [*_both_ways(_here(_query()), _GEOJSON), _link("collection", _JSON, f"{_root()}/collections/{layer.id}")]
    if following is not None:
        links.append(_link("next", _GEOJSON, following))
    told = {
        "links": links,
        "timeStamp": dt.datetime.now(dt.UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "numberMatched": page.matched,
        "numberReturned": len(page.features),
    }
    return Response(orjson.dumps({"type": "FeatureCollection", "features": page.features, **told}), mimetype=_GEOJSON)


def _items_page(layer: Layer, page: features.Page, following: str | None) -> Response:
    names = [each.name for each in layer.properties]
    rows = []
    for feature in page.features:
        href = f"{_root()}/collections/{layer.id}/items/{quote(feature['id'], safe='')}?f=html"
        rows.append([(feature["id"], href), *(feature["properties"].get(name) for name in names)])
    links = [] if following is None else [_link("next", _HTML, following)]
    head = ["id", *(each.title for each in layer.properties)]
    return _page(layer.title, f"{page.matched:,}", links=links, head=head, rows=rows)


@blueprint.route("/collections/<collection>/items/<id>")
@roles(*ROLES, program=True)
@_answers(_GEOJSON, _HTML)
def get_feature(who: SignedIn, collection: str, id: str) -> Response:
    """One feature."""
    layer = _layer(collection)
    crs = features.spoken(_only("crs"))
    session = _reading()
    if answer := _unchanged(session, who):
        return answer
    feature, state = features.one(session, who, layer, id, crs, _address())
    _end(session, suits_all=True)
    if _is_page():
        titles = {each.name: each.title for each in layer.properties}
        rows = [[titles[name], value] for name, value in feature["properties"].items()]
        return _marked(_page(f"{layer.title}: {id}", rows=[*rows, ["位置", feature["geometry"]]]), who, crs, state)
    links = [*_both_ways(_here(_query()), _GEOJSON), _link("collection", _JSON, f"{_root()}/collections/{layer.id}")]
    return _marked(Response(orjson.dumps(feature | {"links": links}), mimetype=_GEOJSON), who, crs, state)


def _reading() -> Session:
    session = db.session()
    begin_read(session)
    return session


def _end(session: Session, *, suits_all: bool) -> None:
    """Reading has ended. A rollback makes psycopg forget how statements are best executed, and finding that out again
    takes longer than a feature; but what is best for one box or filter is not for another."""
    if suits_all:
        session.commit()
    else:
        session.rollback()


def _marked(answer: Response, who: SignedIn, crs: projections.Crs, state: bytes | None) -> Response:
    """The answer with its coordinate system, and with a mark by which a browser asks whether it has changed."""
    answer.headers["Content-Crs"] = f"<{crs.uri}>"
    return _with_mark(answer, who, state)


def _with_mark(answer: Response, who: SignedIn, state: bytes | None) -> Response:
    answer.vary.update(("Accept", "Authorization"))
    if state is not None:
        answer.set_etag(_etag(who, state), weak=True)
        answer.headers["Cache-Control"] = "private, no-cache"
    return answer


def _etag(who: SignedIn, state: bytes) -> str:
    scope = orjson.dumps([_here(_query()), _is_page(), who.role, who.account_id, sorted(who.townships)])
    return hashlib.sha256(state + scope).hexdigest()[:32]


def _unchanged(session: Session, who: SignedIn) -> Response | None:
    """The answer to who has seen this before, if nothing at all has changed since."""
    if not request.if_none_match:
        return None
    state = features.state(session)
    if not request.if_none_match.contains_weak(_etag(who, state)):
        return None
    session.rollback()
    return _with_mark(Response(status=304), who, state)


# ---------------------------------------------------------------- what all have in common


def _address() -> str:
    return request.host_url.rstrip("/")


def _root() -> str:
    return f"{_address()}/ogc"


def _here(query: Sequence[tuple[str, str]]) -> str:
    """The address of this page with this query; every part of it has a `=`, which not all clients could add."""
    href = _address() + quote(request.path)
    return f"{href}?{urlencode(query)}" if query else href


def _query() -> list[tuple[str, str]]:
    return list(request.args.items(multi=True))


def _said() -> list[tuple[str, str]]:
    """What was said but `f`, in which form to answer. Raises QueryInvalid if that is none there is."""
    forms = [text for name, text in _query() if name == "f"]
    if len(forms) > 1 or not set(forms) <= {"json", "html"}:
        raise QueryInvalid.of("f", "json or html")
    return [(name, text) for name, text in _query() if name != "f"]


def _only(*names: str) -> dict[str, str]:
    """What was said, each of these names at most once and nothing else. Raises QueryInvalid."""
    said: dict[str, str] = {}
    for name, text in _said():
        if name not in names or name in said:
            raise QueryInvalid.of(name, "no such parameter")
        said[name] = text
    return said


def _refuse_others() -> None:
    _only()


def _is_page() -> bool:
    """Whether the answer is for people; programs that say nothing get JSON."""
    if told := request.args.get("f"):
        return told == "html"
    return request.accept_mimetypes.best_match([_JSON, _GEOJSON, _SCHEMA, _HTML], _JSON) == _HTML


def _link(rel: str, type: str, href: str, title: str = "") -> Json:
    return {"rel": rel, "type": type, "href": href} | ({"title": title} if title else {})


def _both_ways(href: str, type: str = _JSON) -> list[Json]:
    """Where the answer is, and where it is as a page."""
    page = href + ("&" if "?" in href else "?") + "f=html"
    return [_link("self", type, href), _link("alternate", _HTML, page, "as a page")]


def _written(value: Json, type: str = _JSON) -> Response:
    answer = Response(orjson.dumps(value), mimetype=type)
    answer.vary.add("Accept")
    return answer


def _page(
    title: str, about: str = "", *, links: Iterable[Json] = (), head: Sequence[str] = (), rows: Sequence[Any] = ()
) -> Response:
    """A page for people: text, links, a table. A cell is a text, or a text and where it leads."""
    told = [
        (link.get("title") or link["rel"], link["href"]) for link in links if link["rel"] not in ("self", "alternate")
    ]
    trail = [(TITLE, f"{_root()}/?f=html"), ("Collections 图层", f"{_root()}/collections?f=html")]
    given = {"title": title, "about": about, "links": told, "head": head, "rows": rows, "trail": trail}
    answer = Response(render_template("ogc.html", **given), mimetype=_HTML)
    answer.headers["Content-Security-Policy"] = _PAGE_POLICY
    answer.vary.add("Accept")
    return answer


def _lines(described: Json) -> list[list[Any]]:
    """A collection's description, line by line."""
    extent = described["extent"]
    return [
        ["bbox", ", ".join(map(str, extent["spatial"]["bbox"][0]))],
        ["since", extent["temporal"]["interval"][0][0]],
        *(["crs", uri] for uri in described["crs"]),
    ]
