"""Compiles the C drivers beside this file against the package's own headers."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
from pathlib import Path

from support import PACKAGE

HERE = Path(__file__).resolve().parent
ALWAYS = ("-std=gnu11", "-g", "-Wall", "-Wextra", "-Werror", "-pthread")


def compiler() -> list[str] | None:
    """The C compiler, with its options, that $CC names, or the usual one; None if there is none."""
    named = shlex.split(os.environ.get("CC", ""))
    candidates = [named] if named else [["cc"], ["gcc"], ["clang"]]
    return next((words for words in candidates if shutil.which(words[0])), None)


def compile_driver(source: Path, into: Path, *options: str) -> Path:
    """Compiles one driver; warnings are errors."""
    words = compiler()
    assert words is not None
    binary = into / "-".join([source.stem, *(option.strip("-").replace("=", "-") for option in options)])
    done = subprocess.run(
        [*words, *ALWAYS, f"-I{PACKAGE}", *options, "-o", str(binary), str(source)],
        check=False,
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert done.returncode == 0, done.stderr
    return binary
