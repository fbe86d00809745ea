"""The project's own files agree with each other, and what is tested is what would be installed."""

from __future__ import annotations

import os
import re
import sys
from importlib.metadata import files as installed_files
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest

import shmkit
from support import PACKAGE, REPOSITORY, Processes
from support.sources import files, inside

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

in_place = pytest.mark.skipif(bool(os.environ.get("SHMKIT_TEST_IN_PLACE")), reason="an in-place build is tested")


def project() -> dict[str, Any]:
    return tomllib.loads((REPOSITORY / "pyproject.toml").read_text())


@in_place
def test_the_installed_package_is_tested() -> None:
    """``import shmkit`` in a test finds site-packages, not the checkout."""
    assert PACKAGE not in Path(shmkit.__file__).resolve().parents
    assert "site-packages" in Path(shmkit.__file__).parts


@in_place
def test_programs_that_tests_start_find_the_installed_package(process: Processes) -> None:
    """A child interpreter imports the same shmkit as the test, whatever folder pytest was started in."""
    output, _ = process.python("import shmkit; print(shmkit.__file__)").communicate(timeout=60)
    assert output.strip() == shmkit.__file__


def test_a_debug_build_is_another_copy(process: Processes, debug_env: dict[str, str]) -> None:
    """With the debug environment a child imports the debug tree's copy, extensions included."""
    program = process.python("import shmkit, shmkit._ring as r; print(shmkit.__file__, r.__file__)", env=debug_env)
    output, _ = program.communicate(timeout=60)
    assert output.count(debug_env["PYTHONPATH"]) == 2


@in_place
def test_everything_of_the_package_is_installed() -> None:
    """Modules, stubs, headers and declarations that other extensions compile against, the demo's photographs."""
    installed = {str(path) for path in installed_files("shmkit") or ()}
    built = (".pyx", ".so", ".c", ".pyc")
    sources = {f"shmkit/{inside(path)}" for path in PACKAGE.rglob("*") if path.is_file() and path.suffix not in built}
    missing = sources - installed
    assert not missing, f"not installed: {sorted(missing)}"
    for path in files(".pyx"):
        stem = f"shmkit/{inside(path.with_suffix(''))}."
        assert any(name.startswith(stem) and name.endswith(".so") for name in installed), f"{stem}so is not installed"


def test_the_version_has_one_source() -> None:
    """The distribution's version is the package's ``__version__``, which is typed nowhere else."""
    assert project()["project"]["dynamic"] == ["version"]
    assert shmkit.__version__ == version("shmkit")


def test_the_build_extra_is_what_a_build_requires() -> None:
    """The Makefile builds without isolation, from the extra; pip builds in isolation, from build-system.requires."""
    metadata = project()
    assert metadata["project"]["optional-dependencies"]["build"] == metadata["build-system"]["requires"]
    makefile = (REPOSITORY / "Makefile").read_text()
    for requirement in metadata["build-system"]["requires"]:
        assert f'"{requirement}"' in makefile


def test_run_time_dependencies_have_lower_bounds_only() -> None:
    """Three dependencies, none of which is kept from moving on."""
    dependencies = project()["project"]["dependencies"]
    assert sorted(dependency.split(">=")[0] for dependency in dependencies) == ["numpy", "posix_ipc", "sysv_ipc"]
    assert not any(mark in dependency for dependency in dependencies for mark in ("<", "==", "~", "!"))


def test_the_wheels_are_of_every_python() -> None:
    """cibuildwheel builds for each version that the classifiers name, and the free-threaded one."""
    metadata = project()
    named = re.findall(r"Python :: 3\.(\d+)", "\n".join(metadata["project"]["classifiers"]))
    built = metadata["tool"]["cibuildwheel"]["build"]
    assert {f"cp3{minor}-*" for minor in named} <= set(built)
    assert any(pattern.endswith("t-*") for pattern in built)
    assert set(metadata["tool"]["cibuildwheel"]["linux"]["archs"]) == {"x86_64", "aarch64"}


def test_the_citation_file_has_no_version_of_its_own() -> None:
    """It would be the second place for it."""
    assert not re.search(r"^version:", (REPOSITORY / "CITATION.cff").read_text(), re.MULTILINE)
