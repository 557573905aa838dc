"""Node and what tests run with it: installed once, from exact versions, into the virtual environment's folder."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import tempfile
from pathlib import Path

from tests.journeys.serving import REPOSITORY

SCRIPTS = Path(__file__).parent / "tus_js"
OLDEST = 18
INSTALLS_WITHIN_S = 300


def missing() -> str:
    """What is not on this machine to run the scripts with; nothing, if all is there."""
    if not shutil.which("node") or not shutil.which("npm"):
        return "no Node and npm on this machine: tus-js-client was not tested"
    told = subprocess.run(["node", "--version"], capture_output=True, text=True, check=True).stdout
    if int(told.lstrip("v").partition(".")[0]) < OLDEST:
        return f"Node is {told.strip()}, and tus-js-client needs {OLDEST}: it was not tested"
    return ""


def installed() -> Path:
    """A folder with the scripts and all they need; another one when what they need has changed."""
    wanted = (SCRIPTS / "package.json").read_bytes()
    folder = REPOSITORY / ".venv" / "node" / hashlib.sha256(wanted).hexdigest()[:12]
    if not folder.exists():
        folder.parent.mkdir(parents=True, exist_ok=True)
        fresh = Path(tempfile.mkdtemp(dir=folder.parent))
        shutil.copy(SCRIPTS / "package.json", fresh)
        command = ["npm", "install", "--no-package-lock", "--no-audit", "--no-fund", "--ignore-scripts"]
        subprocess.run(command, cwd=fresh, check=True, capture_output=True, timeout=INSTALLS_WITHIN_S)
        fresh.rename(folder)
    for script in SCRIPTS.glob("*.mjs"):
        shutil.copy(script, folder)
    return folder
