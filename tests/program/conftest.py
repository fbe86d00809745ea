"""The C programs of these tests, compiled once a session: as C and as C++, each warning an error."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from shmkit import get_include

HERE = Path(__file__).resolve().parent
STRICT = ("-Wall", "-Wextra", "-Werror", "-pedantic", "-O2", "-g")
LANGUAGES = {
    "gcc-c11": ("gcc", "-std=c11"),
    "gcc-c++17": ("g++", "-std=c++17", "-x", "c++"),
    "clang-c11": ("clang", "-std=c11"),
    "clang-c++17": ("clang++", "-std=c++17", "-x", "c++"),
}
PRESENT = [name for name, words in LANGUAGES.items() if shutil.which(words[0])]


class Compiled:
    """Programs, compiled when they are first asked for."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._made: dict[tuple[str, ...], Path] = {}

    def __call__(self, source: str, language: str = "", *options: str) -> Path:
        if not PRESENT:
            pytest.skip("needs a C compiler")
        key = (source, language or PRESENT[0], *options)
        if key not in self._made:
            target = self._folder / "-".join(part.strip("-") for part in key)
            done = subprocess.run(
                [*LANGUAGES[key[1]], *STRICT, *options, f"-I{get_include()}", "-o", target, HERE / source],
                check=False,
                capture_output=True,
                text=True,
                timeout=100,
            )
            assert done.returncode == 0, done.stderr
            self._made[key] = target
        return self._made[key]


@pytest.fixture(scope="session")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> Compiled:
    return Compiled(tmp_path_factory.mktemp("programs"))


@pytest.fixture(params=PRESENT or ["none"])
def language(request: pytest.FixtureRequest) -> str:
    return str(request.param)
