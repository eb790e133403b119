"""Links: directed channels that transfers share, first come first served.

A transfer over several links (device, host, pool port) is pipelined through them: it ends when its
slowest link has served it. Because each link serves in order, the end is known when a transfer
starts, and n simultaneous transfers each see 1/n of the bandwidth on average.
"""

from __future__ import annotations

from mypy_extensions import mypyc_attr

from agentserve_gym.sim.kernel.copying import Copyable


@mypyc_attr(allow_interpreted_subclasses=True)
class Link(Copyable):
    """A channel with a bandwidth, a latency per transfer and a queue.

    Attributes:
        bandwidth: bytes per second. ``latency_s``: added once per transfer.
        free_at_s: when the last queued transfer ends.
        moved_bytes: bytes moved or queued so far.
    """

    __slots__ = ("bandwidth", "free_at_s", "latency_s", "moved_bytes", "name")

    def __init__(self, name: str, bandwidth: float, latency_s: float = 0.0) -> None:
        self.name = name
        self.bandwidth = bandwidth
        self.latency_s = latency_s
        self.free_at_s = 0.0
        self.moved_bytes = 0.0

    def backlog_s(self, now_s: float) -> float:
        return max(self.free_at_s - now_s, 0.0)


@mypyc_attr(allow_interpreted_subclasses=True)
class Path(Copyable):
    """The links that a transfer crosses."""

    __slots__ = ("_latency_s", "_slowest", "links")

    def __init__(self, links: tuple[Link, ...]) -> None:
        self.links = links
        self._slowest = min(link.bandwidth for link in links)
        self._latency_s = sum(link.latency_s for link in links)

    def end_s(self, now_s: float, size_bytes: float) -> float:
        """When a transfer that starts now would end."""
        end = now_s + size_bytes / self._slowest
        for link in self.links:
            if link.free_at_s > now_s:
                end = max(end, link.free_at_s + size_bytes / link.bandwidth)
        return end + self._latency_s

    def start(self, now_s: float, size_bytes: float) -> float:
        """Queue a transfer on every link; returns when it ends."""
        end = self.end_s(now_s, size_bytes)
        for link in self.links:
            start = link.free_at_s if link.free_at_s > now_s else now_s
            link.free_at_s = start + size_bytes / link.bandwidth
            link.moved_bytes += size_bytes
        return end
