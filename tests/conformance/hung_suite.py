"""Three tests, one of which hangs: for the test of the runner."""

from __future__ import annotations

import threading
import unittest


class Hung(unittest.TestCase):
    def test_a(self) -> None:
        pass

    def test_b(self) -> None:
        threading.Event().wait()

    def test_c(self) -> None:
        raise AssertionError("as it has to")
