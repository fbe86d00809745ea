"""Builds the extensions of shmkit: every ``shmkit/**/*.pyx`` is one, named after its file.

``SHMKIT_DEBUG=1`` builds the debug variant: bounds checks, asserts, failpoints, and poison in released ring space.
shmkit/include/shmkit.h, for C programs, is made on the way.  Everything else stands in pyproject.toml.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import numpy as np
from Cython.Build import cythonize
from setuptools import Extension, setup

# A build front end need not have put this folder on the path.
sys.path.insert(0, str(Path(__file__).resolve().parent))

import c_header

DEBUG = os.environ.get("SHMKIT_DEBUG", "0") not in ("", "0")
# One folder per variant and interpreter: the C that Cython writes depends on the NumPy that this interpreter has.  The
# free-threaded one says so in its abiflags alone.
BUILD = f"build/{'debug-' if DEBUG else ''}objects/{sys.implementation.cache_tag}{sys.abiflags}"

MACROS = [
    ("NPY_NO_DEPRECATED_API", "NPY_1_24_API_VERSION"),
    # NumPy 2's headers can target an older API; one build then loads in every NumPy that pyproject.toml admits.
    ("NPY_TARGET_VERSION", "NPY_1_24_API_VERSION"),
]
# The bytes of a ring are in turn a record's header, an array's payload and padding: type-based alias analysis would be
# told lies about them, and gains nothing measurable here.
FLAGS = ["-std=gnu11", "-Wall", "-fno-strict-aliasing", "-fvisibility=hidden"]
if DEBUG:
    MACROS += [("SHMKIT_DEBUG", "1")]
    # Python's own flags define NDEBUG; asserts are half the point of this build.
    FLAGS += ["-O1", "-g", "-fno-omit-frame-pointer", "-UNDEBUG"]
else:
    MACROS += [("CYTHON_WITHOUT_ASSERTIONS", "1")]
    FLAGS += ["-O3"]

DIRECTIVES = {
    "language_level": 3,
    "embedsignature": True,
    "binding": True,
    "freethreading_compatible": True,
    "boundscheck": DEBUG,
    "initializedcheck": DEBUG,
    "nonecheck": DEBUG,
    # Not switched by DEBUG: a negative index or a division must mean the same in both builds.
    "wraparound": False,
    "cdivision": True,
}


def extensions() -> list[Extension]:
    sources = sorted(Path("shmkit").rglob("*.pyx"))
    headers = sorted(str(path) for pattern in ("*.h", "*.pxd") for path in Path("shmkit").glob(pattern))
    return [
        Extension(
            ".".join(source.with_suffix("").parts),
            [str(source)],
            include_dirs=["shmkit", np.get_include()],
            depends=headers,
            define_macros=MACROS,
            extra_compile_args=FLAGS,
        )
        for source in sources
    ]


c_header.write()
setup(
    ext_modules=cythonize(extensions(), build_dir=f"{BUILD}/cython", compiler_directives=DIRECTIVES),
    options={"build": {"build_base": BUILD}, "build_ext": {"parallel": os.cpu_count()}},
)
