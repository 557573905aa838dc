"""The API document says what is true, and its page needs nothing from elsewhere."""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import urljoin, urlsplit

import pytest
from flask.testing import FlaskClient
from openapi_spec_validator import OpenAPIV31SpecValidator
from werkzeug.test import TestResponse


@pytest.fixture
def document(client: FlaskClient) -> dict[str, Any]:
    found = client.get("/api/openapi.json").json
    assert found is not None
    return found


def test_the_document_is_valid_openapi_3_1(document: dict[str, Any]) -> None:
    assert document["openapi"] == "3.1.0"
    OpenAPIV31SpecValidator(document).validate()


def test_every_route_is_in_the_document_and_says_whether_it_wants_a_token(
    client: FlaskClient, document: dict[str, Any]
) -> None:
    documented = {
        (re.sub(r"{\w+}", "{}", path), method) for path, methods in document["paths"].items() for method in methods
    }
    for rule in client.application.url_map.iter_rules():
        path = re.sub(r"<[^>]+>", "{}", rule.rule)
        for method in (rule.methods or set()) - {"HEAD", "OPTIONS"}:
            assert (path, method.lower()) in documented
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            if method != "parameters":
                assert operation["security"] in ([], [{"bearer": []}], [{"bearer": []}, {"basic": []}]), path
                assert operation["summary"], path


def test_what_can_go_wrong_is_documented_as_a_problem(document: dict[str, Any]) -> None:
    logout = document["paths"]["/api/v1/auth/logout"]["post"]["responses"]
    assert logout["401"] == {"$ref": "#/components/responses/UNAUTHORIZED"}
    content = document["components"]["responses"]["UNAUTHORIZED"]["content"]
    assert content == {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}}
    assert document["components"]["securitySchemes"]["bearer"]["scheme"] == "bearer"


def test_everything_the_page_loads_comes_from_this_server(client: FlaskClient) -> None:
    loaded = re.findall(r'(?:src|href)="([^"]+)"', read(client, "/api/docs").text)
    files = [urljoin("http://localhost/api/docs", address) for address in loaded if address != "data:,"]
    assert len(files) == 3
    for address in files:
        assert urlsplit(address).netloc == "localhost"
        assert read(client, urlsplit(address).path).status_code == 200


def test_the_page_runs_no_inline_script_and_may_load_from_nowhere_else(client: FlaskClient) -> None:
    page = read(client, "/api/docs")
    assert page.mimetype == "text/html"
    assert not re.search(r"<script(?![^>]* src=)", page.text)
    policy = page.headers["Content-Security-Policy"]
    assert "script-src 'self';" in policy
    assert "http" not in policy


@pytest.mark.parametrize("name", ["nothing.js", "..%2f..%2fapp.py", "%2e%2e", "swagger-ui.js"])
def test_the_page_gives_out_its_own_files_only(client: FlaskClient, name: str) -> None:
    assert read(client, f"/api/docs/{name}").status_code == 404


def read(client: FlaskClient, path: str) -> TestResponse:
    """The answer, read to its end as a server would: a file that is sent is closed then."""
    with client.get(path) as answer:
        answer.get_data()
        return answer
