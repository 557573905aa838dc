"""What ruff and mypy find is what the tests find."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.house.source import ROOT


@pytest.mark.parametrize("tool", ["ruff check --quiet", "ruff format --check --quiet", "mypy --no-error-summary"])
def test_the_source_is_clean(tool: str) -> None:
    done = subprocess.run([sys.executable, "-m", *tool.split()], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
