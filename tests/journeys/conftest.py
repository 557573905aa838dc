"""A real server for a whole module of journeys: `pytest.mark.parametrize("ground", ["…"], indirect=True)`."""

from pathlib import Path

import pytest

from tests.conftest import do_without
from tests.journeys import node
from tests.journeys.ground import at

ground = pytest.fixture(scope="module")(at)


@pytest.fixture(scope="session")
def tus_js(request: pytest.FixtureRequest) -> Path:
    """The folder that `upload.mjs` runs in, with tus-js-client beside it."""
    if missing := node.missing():
        do_without(request.config, missing, required_by="REQUIRE_NODE")
    return node.installed()
