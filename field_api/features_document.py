"""The API document of `/ogc` alone, at `/ogc/api`: OpenAPI 3.0, as maps read it to learn what they may ask.

QGIS and GDAL look for the paths of each collection as they stand, for the page's size and for one parameter per
property. Nothing in it points elsewhere: clients can't follow that.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import orjson
from flask import Response, request
from flask_smorest import Blueprint

from field_api.identity import public
from sync import features, projections
from sync.cql import MOST_CHARS
from sync.features import LANGUAGES
from sync.layers import LAYERS, Layer
from sync.problems import QueryInvalid
from sync.shapes import SelectionQuery

blueprint = Blueprint("features_document", __name__, url_prefix="/ogc", description="The API document of /ogc")

_OPENAPI = "application/vnd.oai.openapi+json;version=3.0"
_JSON, _GEOJSON, _SCHEMA, _HTML = "application/json", "application/geo+json", "application/schema+json", "text/html"
#: Beyond this many features a page is cut, as `components` say to QGIS for all collections.
_MOST, _USUAL = max(layer.most for layer in LAYERS.values()), max(layer.usual for layer in LAYERS.values())
_DAY, _TIME = r"[0-9]{4}-[01][0-9]-[0-3][0-9]", r"[0-2][0-9]:[0-5][0-9]:[0-5][0-9](\.[0-9]{1,20})?"
_INSTANT = rf"{_DAY}T{_TIME}(Z|[+-][0-2][0-9]:[0-5][0-9])"

Json = dict[str, Any]


@blueprint.route("/api")
@public
@blueprint.response(200, content_type=_OPENAPI, description="OpenAPI 3.0")
def get_api() -> Response:
    """The API document of /ogc."""
    said = list(request.args.items(multi=True))
    if said not in ([], [("f", "json")]):
        raise QueryInvalid.of(said[-1][0], "no such parameter")
    return Response(orjson.dumps(document(f"{request.host_url.rstrip('/')}/ogc")), content_type=_OPENAPI)


def document(root: str) -> Json:
    """The document of the service at this address."""
    paths: Json = {
        "/": _get("getLandingPage", "What the service consists of", _JSON, security=[]),
        "/api": _get("getApi", "This document", _OPENAPI, security=[], page=False),
        "/conformance": _get("getConformance", "What of the standards works", _JSON, security=[]),
        "/collections": _get("getCollections", "The collections", _JSON),
    }
    for layer in LAYERS.values():
        paths |= _paths(layer)
    return {
        "openapi": "3.0.3",
        "info": {
            "title": "Field API: layers for maps",
            "version": "1",
            "description": "OGC API - Features. An access token is the password of HTTP Basic, beside any name.",
        },
        "servers": [{"url": root}],
        "security": [{"basic": []}, {"bearer": []}],
        "paths": paths,
        "components": {
            "parameters": {"limit": _limit(_MOST, _USUAL), **_COMMON},
            "responses": _RESPONSES,
            "schemas": _SCHEMAS,
            "securitySchemes": {
                "basic": {"type": "http", "scheme": "basic"},
                "bearer": {"type": "http", "scheme": "bearer"},
            },
        },
    }


# ---------------------------------------------------------------- paths


def _paths(layer: Layer) -> Json:
    path, name = f"/collections/{layer.id}", layer.id.title().replace("-", "")
    feature = {"name": "id", "in": "path", "required": True, "schema": {"type": "string", "minLength": 1}}
    items = [_limit(layer.most, layer.usual), *map(_common, _COMMON_OF_ITEMS), *_filters(layer)]
    return {
        path: _get(f"describe{name}", layer.title, _JSON, tag=layer.id),
        f"{path}/queryables": _get(f"get{name}Queryables", "What a filter may ask about", _SCHEMA, tag=layer.id),
        f"{path}/schema": _get(f"get{name}Schema", "What features hold", _SCHEMA, tag=layer.id),
        f"{path}/items": _get(
            f"get{name}", layer.description, _GEOJSON, parameters=items, schema="featureCollection", tag=layer.id
        ),
        f"{path}/items/{{id}}": _get(
            f"get{name}Feature",
            "One feature",
            _GEOJSON,
            parameters=[feature, _common("crs")],
            schema="feature",
            tag=layer.id,
            missing=True,
        ),
    }


def _get(
    id: str,
    summary: str,
    type: str,
    *,
    parameters: list[Json] | None = None,
    schema: str = "any",
    tag: str = "service",
    security: list[Any] | None = None,
    page: bool = True,
    missing: bool = False,
) -> Json:
    content: Json = {type: {"schema": {"$ref": f"#/components/schemas/{schema}"}}}
    if page:
        content[_HTML] = {"schema": {"type": "string"}}
    told = ["400", "404"] if missing else ["400"]
    if security is None:
        told += ["401", "403"]
    return {
        "get": {
            "operationId": id,
            "summary": summary,
            "tags": [tag],
            "parameters": [*(parameters or []), *([_common("f")] if page else [])],
            "responses": {
                "200": {"description": "OK", "content": content},
                **{status: {"$ref": f"#/components/responses/{status}"} for status in told},
                "default": {"$ref": "#/components/responses/default"},
            },
            **({} if security is None else {"security": security}),
        }
    }


# ---------------------------------------------------------------- parameters


def _query(name: str, schema: Json, description: str = "") -> Json:
    told = {"description": description} if description else {}
    return {"name": name, "in": "query", "required": False, "style": "form", "explode": False, "schema": schema, **told}


def _limit(most: int, usual: int) -> Json:
    return _query("limit", {"type": "integer", "minimum": 1, "maximum": most, "default": usual}, "features on a page")


def _common(name: str) -> Json:
    return {"$ref": f"#/components/parameters/{name}"}


_CRS = {"type": "string", "format": "uri", "enum": list(projections.SPOKEN), "default": projections.CRS84.uri}
_BOX = {"type": "array", "minItems": 4, "maxItems": 6, "items": {"type": "number", "format": "double"}}
_COMMON: Mapping[str, Json] = {
    "bbox": _query("bbox", _BOX, "lower and upper corner, in the system and the order of axes of bbox-crs"),
    "bbox-crs": _query("bbox-crs", _CRS),
    "datetime": _query(
        "datetime",
        {"type": "string", "pattern": rf"^({_INSTANT}|(\.\.)?/{_INSTANT}|{_INSTANT}/(\.\.)?)$"},
        "an instant, or first and last of an interval with / between; .. where it is open",
    ),
    "crs": _query("crs", _CRS),
    "filter": _query("filter", {"type": "string", "minLength": 1}, f"CQL2, up to {MOST_CHARS:,} characters"),
    "filter-lang": _query("filter-lang", {"type": "string", "enum": list(LANGUAGES), "default": LANGUAGES[0]}),
    "filter-crs": _query("filter-crs", _CRS),
    "cursor": _query("cursor", {"type": "string", "maxLength": 80}, "from a link to the next page"),
    "f": _query("f", {"type": "string", "enum": ["json", "html"]}, "instead of Accept"),
}
_COMMON_OF_ITEMS = tuple(name for name in _COMMON if name != "f")


def _filters(layer: Layer) -> list[Json]:
    """The filters of the lists that the layer takes, then one parameter for each property."""
    fields = SelectionQuery().fields
    filters = features.own_filters(layer)
    own = [_query(name, _schema_of(fields[name]), "a filter of the list") for name in filters]
    properties = (each for each in layer.properties if each.name in layer.queryables and each.name not in filters)
    return [*own, *(_query(each.name, _plain(each.schema), each.title) for each in properties)]


def _schema_of(field: Any) -> Json:
    if choices := getattr(field, "one_of", None):
        return {"type": "string", "enum": list(choices)}
    formats = {"AwareDateTime": "date-time", "Instant": "date-time", "UUID": "uuid", "Uid": "uuid"}
    kind = formats.get(type(field).__name__)
    if kind:
        return {"type": "string", "format": kind}
    return {"type": "string", "minLength": 1, "maxLength": field.longest}


def _plain(schema: Json) -> Json:
    return {name: value for name, value in schema.items() if name != "title"}


# ---------------------------------------------------------------- answers


def _problem(description: str) -> Json:
    return {
        "description": description,
        "content": {"application/problem+json": {"schema": {"$ref": "#/components/schemas/problem"}}},
    }


_RESPONSES = {
    "400": _problem("A parameter that is unknown or makes no sense; `errors` say which and, in a filter, where"),
    "401": _problem("No access token, or none that is good"),
    "403": _problem("Not for this account"),
    "404": _problem("No such feature, or not for you"),
    "default": _problem("Anything else"),
}
_SCHEMAS: Mapping[str, Json] = {
    "any": {"type": "object"},
    "problem": {
        "type": "object",
        "required": ["status", "code", "title"],
        "properties": {
            "status": {"type": "integer"},
            "code": {"type": "string"},
            "title": {"type": "string"},
            "errors": {"type": "array", "items": {"type": "object"}},
        },
    },
    "link": {
        "type": "object",
        "required": ["href", "rel"],
        "properties": {name: {"type": "string"} for name in ("href", "rel", "type", "title")},
    },
    "feature": {
        "type": "object",
        "required": ["type", "id", "geometry", "properties"],
        "properties": {
            "type": {"type": "string", "enum": ["Feature"]},
            "id": {"type": "string"},
            "geometry": {"type": "object", "nullable": True},
            "properties": {"type": "object"},
            "links": {"type": "array", "items": {"$ref": "#/components/schemas/link"}},
        },
    },
    "featureCollection": {
        "type": "object",
        "required": ["type", "features", "links", "timeStamp", "numberMatched", "numberReturned"],
        "properties": {
            "type": {"type": "string", "enum": ["FeatureCollection"]},
            "features": {"type": "array", "items": {"$ref": "#/components/schemas/feature"}},
            "links": {"type": "array", "items": {"$ref": "#/components/schemas/link"}},
            "timeStamp": {"type": "string", "format": "date-time"},
            "numberMatched": {"type": "integer", "minimum": 0},
            "numberReturned": {"type": "integer", "minimum": 0},
        },
    },
}
