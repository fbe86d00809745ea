"""Finds out what sanitizers there are here, and runs drivers that were compiled with one."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
from functools import cache
from pathlib import Path
from typing import NamedTuple

import pytest

from sanitize.compiling import compile_driver, compiler

THREAD = ("-O1", "-fsanitize=thread")
ADDRESS = ("-O1", "-fsanitize=address,undefined", "-fno-sanitize-recover=all")
SANITIZERS = pytest.mark.parametrize("sanitizer", [THREAD, ADDRESS], ids=["thread", "address-undefined"])
TINY = "int main(void) { return 0; }\n"


class Toolchain(NamedTuple):
    """How programs with a sanitizer start here; ``lacking`` says why they cannot."""

    start: tuple[str, ...] = ()
    lacking: str = ""


@cache
def toolchain(sanitizer: tuple[str, ...], folder: Path) -> Toolchain:
    """Find out by compiling and starting a program that does nothing."""
    words = compiler()
    if words is None:
        return Toolchain(lacking="no C compiler")
    source, binary = folder / "tiny.c", folder / "tiny"
    source.write_text(TINY)
    made = subprocess.run([*words, *sanitizer, "-o", binary, source], check=False, capture_output=True, text=True)
    if made.returncode != 0:
        return Toolchain(lacking=f"{words[0]} cannot link {sanitizer[-1]}: {made.stderr.strip()[-200:]}")
    # Where the kernel spreads addresses wider than the sanitizer's runtime knows, it starts without that.
    without_spreading = ("setarch", platform.machine(), "-R")
    for start in ((), without_spreading) if shutil.which("setarch") else ((),):
        if subprocess.run([*start, binary], check=False, capture_output=True).returncode == 0:
            return Toolchain(start=start)
    return Toolchain(lacking=f"programs made with {sanitizer[-1]} do not start here")


@cache
def compiled(source: Path, sanitizer: tuple[str, ...], options: tuple[str, ...], folder: Path) -> Path:
    """The driver, compiled once."""
    return compile_driver(source, folder, *sanitizer, *options)


def run_sanitized(
    source: Path, folder: Path, sanitizer: tuple[str, ...], *options: str, arguments: tuple[object, ...]
) -> subprocess.CompletedProcess[str]:
    """Compiles a driver with a sanitizer and runs it; skips where the toolchain lacks it."""
    tools = toolchain(sanitizer, folder)
    if tools.lacking:
        pytest.skip(tools.lacking)
    binary = compiled(source, sanitizer, options, folder)
    # One report is enough: a planted fault would have thousands.
    environment = {**os.environ, "TSAN_OPTIONS": f"{os.environ.get('TSAN_OPTIONS', '')} halt_on_error=1"}
    return subprocess.run(
        [*tools.start, str(binary), *map(str, arguments)],
        check=False,
        capture_output=True,
        text=True,
        timeout=100,
        env=environment,
    )


def stays_silent(source: Path, folder: Path, sanitizer: tuple[str, ...], *arguments: object) -> None:
    """The driver ends well, and the sanitizer has nothing to say."""
    done = run_sanitized(source, folder, sanitizer, arguments=arguments)
    assert done.returncode == 0, done.stderr[-4000:]
    assert done.stderr == ""


def races(source: Path, folder: Path, *arguments: object) -> None:
    """ThreadSanitizer reports the planted fault that the last argument names."""
    done = run_sanitized(source, folder, THREAD, "-DMUTANTS", arguments=arguments)
    assert done.returncode != 0
    assert "data race" in done.stderr
