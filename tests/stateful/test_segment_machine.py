"""Segments, attachments and views in any order, beside a model of plain bytes."""

from __future__ import annotations

import pickle
from typing import Any

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import settings
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, multiple, rule

import shmkit
from shmkit import Segment
from support import unique_name

SIZE = 64
backings = st.sampled_from(["posix", "sysv"])
lifetimes = st.sampled_from(["named", "leased"])


class Model:
    """What a segment should be: its bytes, its name (None once it was unlinked), and who uses it."""

    def __init__(self, name: str | None, backing: str, lifetime: str) -> None:
        self.name = name
        self.backing = backing
        self.lifetime = lifetime
        self.content = bytearray(SIZE)
        self.users = 0

    def gain(self) -> None:
        self.users += 1

    def lose(self) -> None:
        self.users -= 1
        if self.users == 0 and self.lifetime == "leased":
            self.name = None


class View:
    """An array over a segment, from a byte on.

    Hypothesis refers to what a rule returned until the machine is gone, even once another rule has consumed it; so the
    array goes, and with it its use of the segment, when it is let go.
    """

    def __init__(self, array: np.ndarray, model: Model, at: int) -> None:
        self.array = array
        self.model = model
        self.at = at
        model.gain()

    def let_go(self) -> None:
        del self.array
        self.model.lose()


class Segments(RuleBasedStateMachine):
    """A handle is (Segment, Model)."""

    handles = Bundle("handles")
    views = Bundle("views")

    def __init__(self) -> None:
        super().__init__()
        self.names: dict[str, Model] = {}
        self.made: list[tuple[str, str]] = []

    def _named(self, name: str) -> Model | None:
        model = self.names.get(name)
        return model if model is not None and model.name is not None else None

    @rule(target=handles, backing=backings, lifetime=lifetimes)
    def create(self, backing: str, lifetime: str) -> Any:
        name = unique_name("machine")
        self.made.append((name, backing))
        segment = Segment.create(name, SIZE, backing=backing, lifetime=lifetime)
        model = self.names[name] = Model(name, backing, lifetime)
        model.gain()
        return segment, model

    @rule(target=handles)
    def create_anonymous(self) -> Any:
        model = Model(None, "memfd", "leased")
        model.gain()
        return Segment.create(None, SIZE), model

    @rule(target=handles, handle=handles)
    def attach(self, handle: tuple[Segment, Model]) -> Any:
        name, backing = handle[0].name, handle[1].backing
        if name is None:
            return multiple()
        model = self._named(str(name))
        try:
            segment = Segment.attach(name, backing=backing)
        except shmkit.SegmentNotFound:
            assert model is None
            return multiple()
        assert model is not None
        model.gain()
        return segment, model

    @rule(target=handles, handle=handles)
    def create_again(self, handle: tuple[Segment, Model]) -> Any:
        name, backing = handle[0].name, handle[1].backing
        if name is None:
            return multiple()
        try:
            segment = Segment.create(name, SIZE, backing=backing)
        except shmkit.SegmentExists:
            assert self._named(str(name)) is not None
            return multiple()
        assert self._named(str(name)) is None
        model = self.names[str(name)] = Model(str(name), backing, "named")
        model.gain()
        return segment, model

    @rule(target=handles, handle=handles)
    def send(self, handle: tuple[Segment, Model]) -> Any:
        segment, model = handle
        if segment.closed:
            return multiple()
        again = pickle.loads(pickle.dumps(segment))
        model.gain()
        return again, model

    @rule(target=views, handle=handles, at=st.integers(0, SIZE - 1))
    def look(self, handle: tuple[Segment, Model], at: int) -> Any:
        segment, model = handle
        if segment.closed:
            return multiple()
        return View(segment.ndarray(SIZE - at, "u1", at), model, at)

    @rule(target=views, view=views)
    def slice_a_view(self, view: View) -> View:
        half = len(view.array) // 2
        return View(view.array[half:], view.model, view.at + half)

    @rule(view=consumes(views))
    def drop_a_view(self, view: View) -> None:
        view.let_go()

    @rule(handle=handles, at=st.integers(0, SIZE - 1), byte=st.integers(0, 255))
    def write(self, handle: tuple[Segment, Model], at: int, byte: int) -> None:
        if not handle[0].closed:
            handle[0].buf[at] = handle[1].content[at] = byte

    @rule(view=views, byte=st.integers(0, 255))
    def write_through_a_view(self, view: View, byte: int) -> None:
        if len(view.array):
            view.array[0] = view.model.content[view.at] = byte

    @rule(handle=handles)
    def close(self, handle: tuple[Segment, Model]) -> None:
        if not handle[0].closed:
            handle[0].close()
            handle[1].lose()

    @rule(handle=handles)
    def unlink(self, handle: tuple[Segment, Model]) -> None:
        segment, model = handle
        try:
            segment.unlink()
        except shmkit.SegmentNotFound:
            assert model.name is None
            return
        assert model.name is not None or model.backing == "memfd"
        model.name = None

    @rule(view=views)
    def compare_view(self, view: View) -> None:
        assert view.array.tobytes() == bytes(view.model.content[view.at : view.at + len(view.array)])

    @rule(handle=handles)
    def compare(self, handle: tuple[Segment, Model]) -> None:
        if not handle[0].closed:
            assert bytes(handle[0].buf) == bytes(handle[1].content)

    @invariant()
    def names_are_as_the_model_says(self) -> None:
        there = {str(info.name) for info in [*_listed()]}
        mine = {name for name, model in self.names.items() if model.name is not None}
        assert mine == there & set(self.names)

    def teardown(self) -> None:
        # Hypothesis holds views and handles until the machine is gone; names go now.
        for name, backing in self.made:
            shmkit.unlink(name, missing_ok=True, backing=backing)


def _listed() -> list[Any]:
    from shmkit.segment import listing

    return [*listing._posix(), *listing._sysv()]


Segments.TestCase.settings = settings(max_examples=60, stateful_step_count=40)
TestSegments = Segments.TestCase


@pytest.mark.parametrize("backing", ["posix", "sysv"])
def test_a_dropped_view_is_gone_though_it_is_still_referred_to(backing: str) -> None:
    """As Hypothesis refers to it: the last user of a leased segment, so that its name goes too."""
    state = Segments()
    try:
        handle = state.create(backing=backing, lifetime="leased")
        view = state.look(handle=handle, at=0)
        half = state.slice_a_view(view=view)
        state.close(handle=handle)
        state.drop_a_view(view=view)
        state.names_are_as_the_model_says()
        assert handle[1].name is not None
        state.drop_a_view(view=half)
        assert handle[1].name is None
        state.names_are_as_the_model_says()
    finally:
        state.teardown()
