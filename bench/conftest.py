"""Lets pytest-benchmark report what the harness measured in pairs of processes.

The tests of one setup share one interleaved comparison: the first of them runs it, for those contenders whose tests
were selected, and each test reports its contender's repetitions.  pytest-benchmark times a call with a clock; here the
clock is set forward by the seconds per message that the two processes measured, so that its tables, its JSON and its
comparisons of saved runs all show that.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import suite
from shmkit.cli.bench import calls, harness, machine

HERE = Path(__file__).parent


class Clock:
    """Stands still but for what is added to it."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


_clock = Clock()
_comparisons = pytest.StashKey[dict[suite.Setup, harness.Comparison]]()


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("shmkit")
    group.addoption("--bench-full", action="store_true", help="every size, longer rounds, more repetitions")
    group.addoption("--bench-repetitions", type=int, help="rounds of every contender")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    dropped = []
    for item in items:
        case = _case(item)
        if case is None:
            continue
        item.add_marker(pytest.mark.benchmark(group=case.setup.title, timer=_clock))
        if config.pluginmanager.hasplugin("timeout"):
            item.add_marker(pytest.mark.timeout(0))  # every cell has its own watchdog
        if not (case.setup.quick or config.getoption("--bench-full")):
            dropped.append(item)
    if dropped:
        config.hook.pytest_deselected(items=dropped)
        items[:] = [item for item in items if item not in set(dropped)]


def pytest_benchmark_update_machine_info(config: pytest.Config, machine_info: dict[str, Any]) -> None:
    # What differs from run to run is no difference between machines: runs are compared over commits.
    changing = ("command", "commit", "modified")
    machine_info.update({name: value for name, value in machine.facts().items() if name not in changing})


def _case(item: pytest.Item) -> suite.Case | None:
    if HERE not in item.path.parents or not isinstance(item, pytest.Function) or not hasattr(item, "callspec"):
        return None
    case = item.callspec.params.get("case")
    return case if isinstance(case, suite.Case) else None


@pytest.fixture(scope="session")
def plan(pytestconfig: pytest.Config) -> suite.Plan:
    plan = suite.FULL if pytestconfig.getoption("--bench-full") else suite.QUICK
    repetitions = pytestconfig.getoption("--bench-repetitions") or plan.repetitions
    return suite.Plan(plan.seconds, repetitions, plan.parked)


@pytest.fixture(scope="session", autouse=True)
def _no_helpers_left() -> Iterator[None]:
    with harness.no_helpers_left():
        yield


@pytest.fixture
def report(request: pytest.FixtureRequest, benchmark: Any, plan: suite.Plan) -> Callable[[suite.Case], None]:
    """Measures the case's setup, unless a test before has, and reports its contender."""

    def measured(setup: suite.Setup) -> harness.Comparison:
        known = request.config.stash.setdefault(_comparisons, {})
        if setup not in known:
            selected = [case for item in request.session.items if (case := _case(item)) and case.setup == setup]
            present = [case.contender for case in selected if case.contender.missing() is None]
            known[setup] = harness.compare(
                setup.make(plan), setup.job, present, plan.repetitions, traced=calls.why_not() is None
            )
        return known[setup]

    def report(case: suite.Case) -> None:
        if reason := case.contender.missing():
            pytest.skip(reason)
        if machine.SPLIT is None and case.setup.make(plan).split:
            pytest.skip("this machine has one CPU; the pattern puts two processes on two")
        comparison = measured(case.setup)
        cells = comparison.good(case.contender.name)
        if not cells:
            pytest.fail(str(comparison.cells[case.contender.name][0].error), pytrace=False)
        rounds = iter(cells)

        def advance() -> None:
            _clock.now += next(rounds, cells[-1]).seconds

        benchmark.extra_info.update(
            contender=case.contender.name,
            family=case.contender.family,
            message_bytes=case.setup.job.size,
            cpu_per_message=comparison.median(case.contender.name, lambda cell: sum(cell.cpu) / cell.count),
            sleeps_per_message=comparison.median(case.contender.name, lambda cell: cell.sleeps),
            system_calls_per_message=comparison.calls.get(case.contender.name),
            faults_per_message=comparison.median(case.contender.name, lambda cell: cell.faults),
            cells=[cell.record() for cell in comparison.cells[case.contender.name]],
        )
        benchmark.pedantic(advance, rounds=len(cells), iterations=1)
        assert math.isfinite(comparison.median(case.contender.name))

    return report
