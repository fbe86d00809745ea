"""``python -m shmkit.include``: what a compiler has to be told to find ``shmkit.h``."""

from __future__ import annotations

import argparse
import shlex

from shmkit.include import get_include


def main() -> None:
    """Print it."""
    parser = argparse.ArgumentParser(
        prog="python -m shmkit.include", description="Print the compiler's option that finds shmkit.h."
    )
    parser.add_argument("--cflags", action="store_true", help="print -I and the folder (this is the default)")
    parser.add_argument("--path", action="store_true", help="print the folder alone")
    print(get_include() if parser.parse_args().path else f"-I{shlex.quote(get_include())}")


if __name__ == "__main__":
    main()
