"""The ring's core with both ends as threads on one mapping, under ThreadSanitizer, AddressSanitizer and UBSan."""

from __future__ import annotations

import platform
import shutil
import subprocess
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import NamedTuple

import pytest

from sanitize.compiling import HERE, compile_driver, compiler

SOURCE = HERE / "ring_threads.c"
THREAD = ("-O1", "-fsanitize=thread")
ADDRESS = ("-O1", "-fsanitize=address,undefined", "-fno-sanitize-recover=all")
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


Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Compiles ring_threads.c with a sanitizer and runs it; skips where the toolchain lacks it."""
    folder = tmp_path_factory.mktemp("drivers")

    def compile_and_run(
        sanitizer: tuple[str, ...], *options: str, capacity: int, records: int, seed: int
    ) -> subprocess.CompletedProcess[str]:
        tools = toolchain(sanitizer, folder)
        if tools.lacking:
            pytest.skip(tools.lacking)
        binary = compile_driver(SOURCE, folder, *sanitizer, *options)
        return subprocess.run(
            [*tools.start, str(binary), str(capacity), str(records), str(seed)],
            check=False,
            capture_output=True,
            text=True,
            timeout=100,
        )

    return compile_and_run


@pytest.mark.parametrize("capacity", [1024, 65536])
@pytest.mark.parametrize("sanitizer", [THREAD, ADDRESS], ids=["thread", "address-undefined"])
def test_two_threads_on_one_ring_give_a_sanitizer_nothing_to_say(
    run: Run, sanitizer: tuple[str, ...], capacity: int
) -> None:
    """Records of all sizes, batches, views, waits and hand-overs: no race, no stray access, all of them whole."""
    done = run(sanitizer, capacity=capacity, records=10_000, seed=capacity)
    assert done.returncode == 0, done.stderr[-4000:]
    assert done.stderr == ""


@pytest.mark.parametrize("capacity", [1024, 65536])
def test_a_relaxed_publication_does_not_escape_the_thread_sanitizer(run: Run, capacity: int) -> None:
    """The planted fault proves that the test above can fail."""
    done = run(THREAD, "-DMUTANT_RELAXED_PUBLISH", capacity=capacity, records=10_000, seed=capacity)
    assert done.returncode != 0
    assert "data race" in done.stderr
