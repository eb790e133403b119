"""Links: directed channels that transfers share, first come first served.

A transfer over several links (device, host, pool port) is pipelined through them: it ends when its
slowest link has served it. Because each link serves in order, n simultaneous transfers each see 1/n
of the bandwidth on average.

The two directions of one channel may share a limit (``join``). While both have work, each gets its
own rate or half of the limit and what the other cannot use of its half; while one is idle, the
other has its full rate. So work of one direction can delay what was queued before in the other: an
end that was told may move later, never sooner, and whoever waits for it looks again (``Passage``).
"""

from __future__ import annotations

from mypy_extensions import mypyc_attr

from agentserve_gym.sim.kernel.copying import Copyable


@mypyc_attr(allow_interpreted_subclasses=True)
class Link(Copyable):
    """A channel with a bandwidth, a latency per transfer and a queue.

    Attributes:
        bandwidth: bytes per second; ``shared_bandwidth``: while the opposite direction has work.
        latency_s: added once per transfer.
        free_at_s: when the last queued transfer ends, as far as is known.
        moved_bytes: bytes moved or queued so far.
        opposite: the other direction, if both share a limit.
        slowed: how often work of the opposite direction has delayed what was queued here.
    """

    __slots__ = (
        "bandwidth", "free_at_s", "latency_s", "moved_bytes", "name", "opposite",
        "shared_bandwidth", "slowed",
    )  # fmt: skip

    def __init__(self, name: str, bandwidth: float, latency_s: float = 0.0) -> None:
        self.name = name
        self.bandwidth = bandwidth
        self.shared_bandwidth = bandwidth
        self.latency_s = latency_s
        self.free_at_s = 0.0
        self.moved_bytes = 0.0
        self.opposite: Link | None = None
        self.slowed = 0

    def backlog_s(self, now_s: float) -> float:
        return max(self.free_at_s - now_s, 0.0)

    def backlog_bytes(self, now_s: float) -> float:
        """What is queued and not yet served."""
        left_s = self.free_at_s - now_s
        if left_s <= 0.0:
            return 0.0
        shared_s = 0.0
        if self.opposite is not None:
            shared_s = min(max(self.opposite.free_at_s - now_s, 0.0), left_s)
        return shared_s * self.shared_bandwidth + (left_s - shared_s) * self.bandwidth

    def end_s(self, now_s: float, size_bytes: float) -> float:
        """When so many bytes, queued now, would be served."""
        opposite = self.opposite
        if opposite is not None and opposite.free_at_s > now_s:
            return self._shared_ends(opposite, now_s, size_bytes)[0]
        start = self.free_at_s if self.free_at_s > now_s else now_s
        return start + size_bytes / self.bandwidth

    def queue(self, now_s: float, size_bytes: float) -> None:
        """Let so many bytes wait for their turn."""
        opposite = self.opposite
        if opposite is not None and opposite.free_at_s > now_s:
            self.free_at_s, end_s = self._shared_ends(opposite, now_s, size_bytes)
            if end_s > opposite.free_at_s:
                opposite.free_at_s = end_s
                opposite.slowed += 1
        else:
            start = self.free_at_s if self.free_at_s > now_s else now_s
            self.free_at_s = start + size_bytes / self.bandwidth
        self.moved_bytes += size_bytes

    def served_s(self, mark_bytes: float) -> float:
        """When the link will have moved so many bytes in all, fewer than are queued; for those that
        it has not moved yet."""
        after_bytes, free_at_s = self.moved_bytes - mark_bytes, self.free_at_s
        alone_from_s = free_at_s if self.opposite is None else self.opposite.free_at_s
        alone_bytes = max(free_at_s - alone_from_s, 0.0) * self.bandwidth
        if after_bytes <= alone_bytes:
            return free_at_s - after_bytes / self.bandwidth
        shared_until_s = min(free_at_s, alone_from_s)
        return shared_until_s - (after_bytes - alone_bytes) / self.shared_bandwidth

    def _shared_ends(self, opposite: Link, now_s: float, size_bytes: float) -> tuple[float, float]:
        """When this direction, with so many bytes more, and the opposite one would run dry, if both
        have work now."""
        own = self.backlog_bytes(now_s) + size_bytes
        other = opposite.backlog_bytes(now_s)
        own_s, other_s = own / self.shared_bandwidth, other / opposite.shared_bandwidth
        if own_s <= other_s:
            other -= own_s * opposite.shared_bandwidth
            return now_s + own_s, now_s + own_s + other / opposite.bandwidth
        own -= other_s * self.shared_bandwidth
        return now_s + other_s + own / self.bandwidth, now_s + other_s


def join(one: Link, other: Link, limit: float) -> None:
    """Make two links the directions of one channel that moves at most ``limit`` bytes a second."""
    if one.bandwidth + other.bandwidth <= limit:
        return
    for link, opposite in ((one, other), (other, one)):
        link.opposite = opposite
        link.bandwidth = min(link.bandwidth, limit)
    for link, opposite in ((one, other), (other, one)):
        link.shared_bandwidth = min(link.bandwidth, max(limit / 2, limit - opposite.bandwidth))


@mypyc_attr(allow_interpreted_subclasses=True)
class Path(Copyable):
    """The links that a transfer crosses.

    Attributes:
        latency_s: of all links together. ``joined``: those links that an opposite direction slows.
    """

    __slots__ = ("_slowest", "joined", "latency_s", "links")

    def __init__(self, links: tuple[Link, ...]) -> None:
        self.links = links
        self.joined = tuple([link for link in links if link.opposite is not None])
        self._slowest = min(link.bandwidth for link in links)
        self.latency_s = sum(link.latency_s for link in links)

    def end_s(self, now_s: float, size_bytes: float) -> float:
        """When a transfer that starts now would end, as far as is known."""
        end = now_s + size_bytes / self._slowest
        for link in self.links:
            opposite = link.opposite
            if link.free_at_s > now_s or (opposite is not None and opposite.free_at_s > now_s):
                end = max(end, link.end_s(now_s, size_bytes))
        return end + self.latency_s

    def start(self, now_s: float, size_bytes: float) -> float:
        """Queue a transfer on every link; returns when it ends, as far as is known."""
        end = self.end_s(now_s, size_bytes)
        for link in self.links:
            link.queue(now_s, size_bytes)
        return end


@mypyc_attr(allow_interpreted_subclasses=True)
class Passage(Copyable):
    """A transfer's place in the queues of its path, from its start on."""

    __slots__ = ("_end_s", "_marks", "_path", "_slowed")

    def __init__(self, path: Path, now_s: float, size_bytes: float) -> None:
        self._path = path
        self._end_s = path.start(now_s, size_bytes)
        self._marks = [link.moved_bytes for link in path.joined]
        self._slowed = [link.slowed for link in path.joined]

    def end_s(self) -> float:
        """When it ends, as far as is known: later than was known before, or then."""
        for place, link in enumerate(self._path.joined):
            if link.slowed != self._slowed[place]:
                self._slowed[place] = link.slowed
                end = link.served_s(self._marks[place]) + self._path.latency_s
                self._end_s = max(self._end_s, end)
        return self._end_s
