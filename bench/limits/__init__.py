"""Compiles the limits at first use, into a cache folder, and imports them.

Needs a C compiler and Cython.  The compiled module is kept per Python, NumPy, compiler flags and content of the sources
in ``$XDG_CACHE_HOME/shmkit-bench`` (``~/.cache/shmkit-bench``); nothing is written into the checkout.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import importlib.util
import io
import os
import sys
import sysconfig
from pathlib import Path
from types import ModuleType

import numpy as np

HERE = Path(__file__).parent
SOURCES = [HERE / "_limits.pyx", HERE / "bare.h", HERE / "queues.h", HERE / "framed.h"]
# What setup.py gives the library: a limit compiled otherwise would measure the flags.
FLAGS = ["-std=gnu11", "-O3", "-fno-strict-aliasing"]
MACROS = [("NPY_NO_DEPRECATED_API", "NPY_1_24_API_VERSION"), ("NPY_TARGET_VERSION", "NPY_1_24_API_VERSION")]


def cache_folder() -> Path:
    """Where this Python's build of these sources belongs."""
    digest = hashlib.sha256(repr((sys.version, np.__version__, FLAGS, MACROS)).encode())
    for source in SOURCES:
        digest.update(source.read_bytes())
    root = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return root / "shmkit-bench" / digest.hexdigest()[:16]


def build(folder: Path) -> Path:
    """Compiles ``_limits`` into ``folder``; returns the module's file."""
    from Cython.Build import cythonize
    from setuptools import Distribution, Extension

    extension = Extension(
        "_limits",
        [str(SOURCES[0])],
        include_dirs=[str(HERE), np.get_include()],
        define_macros=MACROS,
        extra_compile_args=FLAGS,
    )
    modules = cythonize([extension], build_dir=str(folder / "c"), quiet=True)
    command = Distribution({"name": "limits", "ext_modules": modules}).get_command_obj("build_ext")
    command.build_lib = str(folder)
    command.build_temp = str(folder / "objects")
    command.ensure_finalized()
    with contextlib.redirect_stdout(io.StringIO()):
        command.run()
    return folder / module_name()


def module_name() -> str:
    return "_limits" + str(sysconfig.get_config_var("EXT_SUFFIX"))


def load() -> ModuleType:
    """The compiled module; builds it if nobody has yet."""
    folder = cache_folder()
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / module_name()
    with open(folder / "lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not file.exists():
            build(folder)
    spec = importlib.util.spec_from_file_location("_limits", file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


compiled = load()
