"""Two directions that share a limit, against a plain simulation of both queues."""

from __future__ import annotations

import copy
from collections import deque
from typing import NamedTuple

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from agentserve_gym.sim.kernel.events import Clock, Event
from agentserve_gym.sim.kernel.links import Link, Passage, Path, join
from agentserve_gym.sim.kernel.transfers import Transfer, TransferHost

pytestmark = pytest.mark.no_cover

SETTINGS = settings(
    max_examples=150, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True
)


class Job(NamedTuple):
    """So many bytes that set out at a time in a direction."""

    start_s: float
    direction: int
    size_bytes: float


class Channel(NamedTuple):
    """Rates of both directions, and the limit of their sum."""

    rates: tuple[float, float]
    limit: float

    def links(self) -> tuple[Link, Link]:
        links = Link("out", self.rates[0]), Link("back", self.rates[1])
        join(*links, self.limit)
        return links

    def served(self, busy: tuple[bool, bool]) -> tuple[float, float]:
        """Bytes per second of each direction."""
        if not all(busy):
            return tuple(min(r, self.limit) * b for r, b in zip(self.rates, busy, strict=True))  # type: ignore[return-value]
        out, back = self.rates
        half = self.limit / 2
        return min(out, max(half, self.limit - back)), min(back, max(half, self.limit - out))


jobs = st.lists(
    st.tuples(
        st.one_of(st.just(0.0), st.floats(0.0, 3.0)),
        st.integers(0, 1),
        st.integers(1, 60).map(float),
    ),
    min_size=1,
    max_size=14,
)
rates = st.sampled_from([5.0, 10.0, 17.0])
channels = st.builds(Channel, st.tuples(rates, rates), st.sampled_from([7.0, 12.0, 16.0, 50.0]))


def at_times(drawn: list[tuple[float, int, float]]) -> list[Job]:
    now, found = 0.0, []
    for wait_s, direction, size_bytes in drawn:
        now += wait_s
        found.append(Job(now, direction, size_bytes))
    return found


def reference(channel: Channel, work: list[Job]) -> list[float]:
    """When each job ends, from one change of either queue to the next."""
    waiting, queues = deque(enumerate(work)), (deque(), deque())
    ends, now = [0.0] * len(work), 0.0
    while waiting or any(queues):
        speeds = channel.served((bool(queues[0]), bool(queues[1])))
        steps = [queue[0][1] / speed for queue, speed in zip(queues, speeds, strict=True) if queue]
        if waiting:
            steps.append(waiting[0][1].start_s - now)
        step = min(steps)
        now += step
        for queue, speed in zip(queues, speeds, strict=True):
            if queue:
                queue[0][1] -= step * speed
                if queue[0][1] <= 1e-9:
                    ends[queue.popleft()[0]] = now
        while waiting and waiting[0][1].start_s <= now:
            number, job = waiting.popleft()
            queues[job.direction].append([number, job.size_bytes])
    return ends


class Nobody(TransferHost):
    """Hears nothing: arrivals write themselves down."""


class Arrival(Transfer):
    """Writes down when it arrives."""

    def __init__(self, number: int, log: dict[int, float]) -> None:
        super().__init__(Nobody())
        self.number = number
        self.log = log

    def arrived(self) -> None:
        self.log[self.number] = self._clock.time_s


class Run(Event):
    """Jobs that set out and arrive on a clock; it fires when the next one is due."""

    def __init__(self, channel: Channel, work: list[Job]) -> None:
        self.clock = Clock()
        self.paths = [Path((link,)) for link in channel.links()]
        self.due = list(enumerate(work))
        self.log: dict[int, float] = {}
        for job in work:
            self.clock.schedule(job.start_s, self)

    def fire(self) -> None:
        number, job = self.due.pop(0)
        arrival = Arrival(number, self.log)
        arrival.start(self.clock, self.paths[job.direction], job.size_bytes)

    def finish(self) -> list[float]:
        while self.clock.peek_s() < float("inf"):
            self.clock.step()
        return [self.log[number] for number in sorted(self.log)]


@SETTINGS
@given(channel=channels, drawn=jobs)
def test_every_transfer_arrives_when_a_plain_simulation_says(
    channel: Channel, drawn: list[tuple[float, int, float]]
) -> None:
    """Which holds all of: served bytes are queued bytes, in order, at the rates of the rule."""
    work = at_times(drawn)
    assert Run(channel, work).finish() == pytest.approx(reference(channel, work), rel=1e-9)


@SETTINGS
@given(channel=channels, drawn=jobs, steps=st.integers(0, 25))
def test_a_copy_in_the_middle_ends_as_the_original(
    channel: Channel, drawn: list[tuple[float, int, float]], steps: int
) -> None:
    run = Run(channel, at_times(drawn))
    for _ in range(steps):
        if run.clock.peek_s() < float("inf"):
            run.clock.step()
    other = copy.deepcopy(run)
    assert other.finish() == run.finish()


@SETTINGS
@given(channel=channels, drawn=jobs)
def test_both_move_the_limit_while_both_have_work_and_never_more(
    channel: Channel, drawn: list[tuple[float, int, float]]
) -> None:
    work, links = at_times(drawn), channel.links()
    now = 0.0
    for job in [*work, Job(work[-1].start_s + 100.0, 0, 1.0)]:
        while now < job.start_s:
            until = min(now + 0.37, job.start_s)
            left = [link.backlog_bytes(until) for link in links]
            had = [link.backlog_bytes(now) for link in links]
            moved = sum(had) - sum(left)
            most = min(channel.limit, sum(channel.rates)) * (until - now)
            assert moved <= most + 1e-9
            if all(left):
                assert moved == pytest.approx(most)
            now = until
        links[job.direction].queue(job.start_s, job.size_bytes)
    assert sum(link.moved_bytes for link in links) == sum(job.size_bytes for job in work) + 1.0


@SETTINGS
@given(channel=channels, drawn=jobs)
def test_an_end_moves_later_only_and_estimates_are_what_a_start_says(
    channel: Channel, drawn: list[tuple[float, int, float]]
) -> None:
    links = channel.links()
    told: list[tuple[Passage, float]] = []
    for job in at_times(drawn):
        path = Path((links[job.direction],))
        estimate = path.end_s(job.start_s, job.size_bytes)
        passage = Passage(path, job.start_s, job.size_bytes)
        assert passage.end_s() == estimate
        told = [(one, max(one.end_s(), before)) for one, before in told]
        assert all(one.end_s() >= before for one, before in told)
        told.append((passage, estimate))


def test_without_opposite_work_a_limit_changes_nothing() -> None:
    joined, plain = Channel((10.0, 10.0), 15.0).links(), Link("plain", 10.0)
    ends = [Path((joined[0],)).start(at_s, 7.0) for at_s in (0.1, 0.2, 3.7)]
    assert ends == [Path((plain,)).start(at_s, 7.0) for at_s in (0.1, 0.2, 3.7)]


def test_directions_that_cannot_reach_the_limit_together_are_not_joined() -> None:
    assert Channel((5.0, 10.0), 15.0).links()[0].opposite is None
