"""Writes the documentation's blocks of Python where a checker of types reads them.

`python tests/docs/blocks.py FOLDER`: each with what has to stand before it, as the tests run it.
"""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from docs.pages import PAGES, blocks_of

# Unannotated, as people write them: what is checked is how they use the package.
CONFIGURATION = {"include": ["."], "typeCheckingMode": "standard", "pythonVersion": "3.10"}


def main(folder: Path, package: Path) -> None:
    """Writes one file for each block, and how they are to be checked."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    for page in PAGES:
        for block in blocks_of(page):
            if not block.skipped:
                (folder / f"{page.stem.replace('-', '_')}_{block.line}.py").write_text(block.code)
    (folder / "pyrightconfig.json").write_text(json.dumps({**CONFIGURATION, "extraPaths": [str(package)]}))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(__file__).resolve().parents[2])
