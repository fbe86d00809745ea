"""Print a script that completes shmkit's commands, options and names in your shell.

It asks no Python when you press the tab key.
"""

from __future__ import annotations

import argparse
import re
from typing import Any

from shmkit.cli.command import CommandError

__all__ = ["EXAMPLES", "HELP", "SHELLS", "add_arguments", "run"]

HELP = "a script for your shell that completes what you type"

EXAMPLES = """\
  shmkit completion bash > ~/.local/share/bash-completion/completions/shmkit
  shmkit completion zsh > ~/.zfunc/_shmkit     (fpath+=~/.zfunc before compinit)
  shmkit completion tcsh > ~/.shmkit.tcsh      (source it from ~/.tcshrc)"""

SHELLS = ("bash", "zsh", "tcsh")

# The names of what is in /dev/shm; the companions of System V segments are nobody's business.
_BASH = r"""
_shmkit_names() {
  local name
  for name in /dev/shm/*; do
    name=${name##*/}
    case $name in shmkit.lease.*|sem.*|'*') continue;; esac
    [[ $name == "$1"* ]] && printf '%s\n' "$name"
  done
}
"""
_ZSH = r"""
_shmkit_names() {
  local -a names
  names=(/dev/shm/*(N:t))
  names=(${names:#(shmkit.lease.*|sem.*)})
  compadd -a names
}
"""
_NAMES = {"bash": "_shmkit_names", "zsh": "_shmkit_names", "tcsh": "p@/dev/shm/*@"}
_ADVICE = re.compile(r"^# Usage:\n(?:#.*\n)+", re.MULTILINE)
# The arguments that are, or may be, names of shared memory, by destination.
_NAMED = ("name", "names", "patterns", "address", "addresses")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of ``shmkit completion``."""
    parser.add_argument("shell", choices=SHELLS)


def run(options: argparse.Namespace) -> int:
    """Print the script."""
    try:
        import shtab
    except ImportError:
        raise CommandError("completion needs shtab: pip install 'shmkit[cli]'") from None
    from shmkit.cli import build_parser

    parser = build_parser()
    for action in _actions(parser):
        if action.dest in _NAMED and not action.option_strings:
            action.complete = _NAMES  # type: ignore[attr-defined]
        elif action.dest in ("output", "folder", "key_file"):
            action.complete = shtab.DIRECTORY if action.dest == "folder" else shtab.FILE  # type: ignore[attr-defined]
    preamble: Any = {"bash": _BASH, "zsh": _ZSH, "tcsh": ""}  # its annotation says str, its documentation this
    script = shtab.complete(parser, options.shell, preamble=preamble)
    # Its own words about where to put the script name another folder than the one that shells look into.
    print(_ADVICE.sub("", script))
    return 0


def _actions(parser: argparse.ArgumentParser) -> list[argparse.Action]:
    found = []
    for action in parser._actions:
        found.append(action)
        if isinstance(action, argparse._SubParsersAction):
            for subparser in action.choices.values():
                found.extend(_actions(subparser))
    return found
