"""The tool simulator: durations of gaps, and what may be learned from completed calls."""

from __future__ import annotations

from collections.abc import Sequence
from math import inf
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agentserve_gym.sim.kernel.events import Clock
from agentserve_gym.sim.kernel.host import Host
from agentserve_gym.sim.kernel.programs import ProgramState
from agentserve_gym.sim.kernel.tool_statistics import KindStatistics
from agentserve_gym.sim.scenario import ToolSpec
from agentserve_gym.sim.tools import ToolSimulator
from agentserve_gym.workloads.program import GapKind, Program, ToolCall, Turn


class Tools(Host):
    """A tool simulator with a clock; remembers when each program's gap was over."""

    def __init__(self, seed: int = 0, **spec: Any) -> None:
        self.clock = Clock()
        self.done: dict[int, float] = {}
        self.tools = ToolSimulator(ToolSpec(**spec), self.clock, seed, self)
        self._programs = 0

    def tools_done(self, program: ProgramState) -> None:
        assert program.index not in self.done
        self.done[program.index] = self.clock.time_s

    def start(
        self, calls: Sequence[ToolCall], gap_s: float | None = None, kind: GapKind = "tool"
    ) -> int:
        turn = Turn(
            10, 10, 1, 0, max(call.duration_s for call in calls) if gap_s is None else gap_s,
            kind, tuple(calls),
        )  # fmt: skip
        index = self._programs
        self._programs += 1
        plan = Program(f"p{index}", "test", (turn,))
        self.tools.start(ProgramState(plan, index, index, 16, None), turn, 0)
        return index

    def run(self, until_s: float = inf) -> dict[int, float]:
        while self.clock.peek_s() <= until_s and self.clock.peek_s() < inf:
            self.clock.step()
        return self.done


def call(duration_s: float, kind: str = "bash", failures: int = 0) -> ToolCall:
    return ToolCall(kind, duration_s, failures=failures)


@pytest.mark.parametrize("spec", [{}, {"concurrency": {"none": 1}}], ids=["plain", "modelled"])
def test_a_gap_lasts_as_long_as_its_longest_call(spec: dict[str, Any]) -> None:
    host = Tools(**spec)
    host.start([call(2.0), call(5.0, "web"), call(1.0)])
    assert host.run() == {0: 5.0}


@pytest.mark.parametrize("spec", [{}, {"concurrency": {"none": 1}}], ids=["plain", "modelled"])
def test_client_time_beyond_the_longest_call_follows_the_calls(spec: dict[str, Any]) -> None:
    host = Tools(**spec)
    host.start([call(2.0), call(5.0)], gap_s=7.5)
    host.start([], gap_s=3.0)
    assert host.run() == {0: 7.5, 1: 3.0}


def test_a_kind_runs_no_more_calls_at_once_than_its_limit() -> None:
    host = Tools(concurrency={"gpu": 2})
    for _ in range(5):
        host.start([call(10.0, "gpu")])
    host.start([call(3.0, "bash")])
    assert host.tools.running == {"gpu": 2, "bash": 1}
    assert len(host.tools.queued["gpu"]) == 3
    assert host.run() == {0: 10.0, 1: 10.0, 2: 20.0, 3: 20.0, 4: 30.0, 5: 3.0}


def test_queued_calls_start_in_the_order_in_which_they_came() -> None:
    host = Tools(concurrency={"gpu": 1})
    for duration_s in (4.0, 3.0, 2.0, 1.0):
        host.start([call(duration_s, "gpu")])
    assert host.run() == {0: 4.0, 1: 7.0, 2: 9.0, 3: 10.0}


def test_parallel_calls_of_one_gap_also_queue_for_the_limit() -> None:
    host = Tools(concurrency={"gpu": 1})
    host.start([call(4.0, "gpu"), call(3.0, "gpu")])
    assert host.run() == {0: 7.0}


def test_planned_failures_repeat_the_call_after_a_delay() -> None:
    host = Tools(retry_delay_s=0.5)
    host.start([call(2.0, failures=2)])
    assert host.run() == {0: pytest.approx(3 * 2.0 + 2 * 0.5)}
    assert host.tools.failures == 2


def test_random_failures_happen_as_often_as_asked_and_retries_are_limited() -> None:
    host = Tools(failure_probability=0.5, max_retries=2, retry_delay_s=1.0)
    for _ in range(4000):
        host.start([call(1.0)])
    ends = np.array(list(host.run().values()))
    # 1 s without a failure, 3 with one, 5 with two; after two retries the call counts as done.
    attempts = (ends + 1.0) / 2.0
    assert set(attempts) == {1.0, 2.0, 3.0}
    shares = [float((attempts == n).mean()) for n in (1, 2, 3)]
    assert shares == pytest.approx([0.5, 0.25, 0.25], abs=0.03)
    assert host.tools.failures == int((attempts - 1).sum())


def test_a_failed_attempt_gives_its_slot_to_the_next_in_line() -> None:
    host = Tools(concurrency={"gpu": 1}, retry_delay_s=1.0)
    host.start([call(4.0, "gpu", failures=1)])
    host.start([call(2.0, "gpu")])
    # 0..4 first attempt; 4..6 the other program; the retry is due at 5 and waits: 6..10.
    assert host.run() == {0: 10.0, 1: 6.0}


def test_attempts_are_cut_at_the_timeout() -> None:
    host = Tools(timeout_s=3.0)
    host.start([call(2.0)])
    host.start([call(9.0)])
    assert host.run() == {0: 2.0, 1: 3.0}
    assert host.tools.timeouts == 1


def test_each_other_running_call_slows_a_starting_one_down() -> None:
    host = Tools(slowdown_per_call=0.5)
    for _ in range(3):
        host.start([call(2.0)])
    assert host.run() == {0: 2.0, 1: 3.0, 2: 4.0}


def test_durations_can_be_drawn_anew_per_kind() -> None:
    spec = {"weights": [1.0], "mu": [np.log(2.0)], "sigma": [0.5], "cap_s": 6.0}
    host = Tools(durations={"bash": spec})
    for _ in range(4000):
        host.start([call(99.0)])
    untouched = host.start([call(50.0, "web")])
    ends = host.run()
    assert ends.pop(untouched) == 50.0
    values = np.array(list(ends.values()))
    assert np.median(values) == pytest.approx(2.0, rel=0.05)
    assert np.std(np.log(values[values < 6.0])) == pytest.approx(0.5, rel=0.06)
    assert values.max() == 6.0


def test_mixtures_draw_from_their_components_by_weight() -> None:
    spec = {"weights": [3.0, 1.0], "mu": [0.0, 4.0], "sigma": [0.0, 0.0]}
    host = Tools(durations={"bash": spec})
    for _ in range(2000):
        host.start([call(99.0)])
    values = np.array(list(host.run().values()))
    assert float((values < 2.0).mean()) == pytest.approx(0.75, abs=0.03)


def test_draws_depend_on_seed_and_identity_not_on_order() -> None:
    spec = {"durations": {"bash": {"weights": [1.0], "mu": [1.0], "sigma": [1.0]}}}

    def first_two(seed: int, *, swapped: bool) -> list[float]:
        host = Tools(seed, **spec)
        turn = Turn(10, 10, 1, 0, 1.0, "tool", (call(1.0),))
        states = [ProgramState(Program(f"p{i}", "test", (turn,)), i, i, 16, None) for i in range(2)]
        for state in reversed(states) if swapped else states:
            host.tools.start(state, turn, 0)
        host.run()
        return [host.done[0], host.done[1]]

    assert first_two(1, swapped=False) == first_two(1, swapped=True)
    assert first_two(1, swapped=False) != first_two(2, swapped=False)


# --- statistics -----------------------------------------------------------------------------------


@pytest.mark.parametrize("spec", [{}, {"concurrency": {"none": 1}}], ids=["plain", "modelled"])
def test_statistics_are_kept_per_kind_once_calls_complete(spec: dict[str, Any]) -> None:
    host = Tools(**spec)
    host.start([call(2.0, "bash"), call(4.0, "web")])
    host.start([call(6.0, "bash")])
    assert host.tools.statistics.kind("bash") is None
    host.run()
    bash, web = host.tools.statistics.kind("bash"), host.tools.statistics.kind("web")
    assert bash is not None
    assert web is not None
    assert (bash.count, bash.mean_s, list(bash.recent)) == (2, 4.0, [2.0, 6.0])
    assert (web.count, web.mean_s) == (1, 4.0)
    assert host.tools.statistics.overall.count == 3


def test_waiting_for_a_slot_is_not_tool_time() -> None:
    host = Tools(concurrency={"gpu": 1})
    for _ in range(3):
        host.start([call(5.0, "gpu")], gap_s=8.0)
    host.run()
    statistics = host.tools.statistics.kind("gpu")
    assert statistics is not None
    assert list(statistics.recent) == [5.0, 5.0, 5.0]


def test_a_gap_without_listed_tools_counts_as_its_gap_kind() -> None:
    host = Tools()
    host.start([], gap_s=30.0, kind="user")
    host.run()
    user = host.tools.statistics.kind("user")
    assert user is not None
    assert user.mean_s == 30.0


def test_a_short_call_is_learned_when_it_completes_not_when_the_gap_ends() -> None:
    host = Tools()
    host.start([call(2.0, "bash"), call(9.0, "web")])
    host.run(until_s=5.0)
    assert host.tools.statistics.kind("bash") is not None


def test_the_wait_before_a_retry_is_not_tool_time() -> None:
    host = Tools(retry_delay_s=10.0)
    host.start([call(2.0, failures=1)])
    host.run()
    statistics = host.tools.statistics.kind("bash")
    assert statistics is not None
    assert statistics.mean_s == 4.0


def test_tool_settings_leave_a_person_alone() -> None:
    host = Tools(timeout_s=60.0, slowdown_per_call=0.5)
    host.start([call(1.0)])
    host.start([], gap_s=300.0, kind="user")
    assert host.run()[1] == 300.0


@settings(max_examples=60, deadline=None, derandomize=True)
@given(st.lists(st.floats(1e-3, 1e4), min_size=1, max_size=150))
def test_kind_statistics_are_the_running_averages_that_they_claim(values: list[float]) -> None:
    statistics = KindStatistics()
    for value in values:
        statistics.learn(value)
    average, mean, variance = values[0], np.log(values[0]), 0.0
    for value in values[1:]:
        average = 0.8 * average + 0.2 * value
        delta = np.log(value) - mean
        variance = 0.8 * (variance + 0.2 * delta * delta)
        mean += 0.2 * delta
    assert statistics.count == len(values)
    assert statistics.mean_s == pytest.approx(np.mean(values))
    assert statistics.ema_s == pytest.approx(average)
    assert statistics.log_mean == pytest.approx(mean)
    assert statistics.log_variance == pytest.approx(variance, abs=1e-12)
    assert list(statistics.recent) == values[-100:]


def test_no_statistics_before_the_first_call() -> None:
    assert KindStatistics().mean_s == 0.0
