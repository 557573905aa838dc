"""A real server for a whole module of journeys: `pytest.mark.parametrize("ground", ["…"], indirect=True)`."""

import pytest

from tests.journeys.ground import at

ground = pytest.fixture(scope="module")(at)
