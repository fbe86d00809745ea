"""How Sphinx builds the site: ``make docs``.  Pages are Markdown (MyST), the reference comes from the docstrings."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np

import shmkit

project = "shmkit"
author = "The shmkit developers"
release = version = shmkit.__version__
project_copyright = author

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.viewcode"]
exclude_patterns = ["drawings/*.py"]
root_doc = "index"
nitpicky = False

myst_enable_extensions = ["colon_fence", "deflist", "fieldlist"]
myst_heading_anchors = 3

html_theme = "furo"
html_title = f"shmkit {release}"
html_theme_options = {
    "light_css_variables": {"color-brand-primary": "#2f6fb3", "color-brand-content": "#2f6fb3"},
    "dark_css_variables": {"color-brand-primary": "#8fc0f0", "color-brand-content": "#8fc0f0"},
}
# Output of commands and tables of memory are not Python.
highlight_language = "none"

autodoc_member_order = "bysource"
autodoc_default_options = {"members": True}
# The extensions' signatures are the first line of their docstrings, as Cython embeds them.
autodoc_docstring_signature = True

# By the names that the sources have for them: written out, NumPy's take four lines.
autodoc_typehints_format = "short"
autodoc_type_aliases = {
    name: name.rpartition(".")[2]
    for name in ("Shape", "Order", "LikeOrder", "Backing", "Lifetime", "npt.DTypeLike", "npt.ArrayLike")
}

REPOSITORY = Path(__file__).resolve().parent.parent
FIELD = re.compile(r"[A-Z]\w*\.\w+: [\w| .\[\]]+$")
SINGLE_BACKTICKS = re.compile(r"(?<![`:\w])`([^`\n]+)`(?![`_])")


def as_code(app: Any, what: str, name: str, thing: object, options: Any, lines: list[str]) -> None:
    """What docstrings put between single backticks is an argument; a field's type is not part of its words.

    Nor is its number, which is all that Python itself says of one.
    """
    if what in ("attribute", "property") and lines and FIELD.match(lines[0]):
        del lines[0]
    if lines and lines[0].startswith("Alias for field number"):
        lines.clear()
    lines[:] = [SINGLE_BACKTICKS.sub(r"``\1``", line) for line in lines]


def as_written(
    app: Any, what: str, name: str, thing: object, options: Any, signature: str | None, returns: str | None
) -> tuple[str | None, str | None]:
    """Signatures as the sources have them: names of types, default values, and modes in octal."""

    def plain(text: str | None) -> str | None:
        if text is None:
            return None
        text = re.sub(r"TypeAliasForwardRef\('(\w+)'\)", r"\1", text)
        text = re.sub(r"<class '(?:\w+\.)*(\w+)'>", r"\1", text)
        return re.sub(r"((?:mode|permissions)[^,=]*= )(\d+)", lambda found: f"{found[1]}0o{int(found[2]):o}", text)

    return plain(signature), plain(returns)


def without_numpys(app: Any, what: str, name: str, thing: object, skip: bool, options: Any) -> bool | None:
    """What a subclass of ndarray has from NumPy, words included, NumPy describes; None: as Sphinx sees it."""
    theirs = getattr(np.ndarray, name, None)
    return True if theirs is not None and getattr(thing, "__doc__", None) == theirs.__doc__ else None


def setup(app: Any) -> None:
    """Called by Sphinx."""
    app.connect("autodoc-process-docstring", as_code)
    app.connect("autodoc-process-signature", as_written)
    app.connect("autodoc-skip-member", without_numpys)
