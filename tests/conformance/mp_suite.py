"""``test._test_multiprocessing``, installed into this module for one start method.

Its children import this module too, to find the functions that they are to run.
"""

from __future__ import annotations

import os

from conformance import substitutes

# Before the tests are imported: their classes are made of what multiprocessing has then.
substitutes.install()

if substitutes.face() == "drop-in":
    from conformance import rewritten

    _test_multiprocessing = rewritten.load("test._test_multiprocessing")
else:
    from test import _test_multiprocessing

# A fork server imports it once for all of its children.
_test_multiprocessing.PRELOAD.append(__name__)
_test_multiprocessing.install_tests_in_module_dict(globals(), os.environ[substitutes.METHOD])
