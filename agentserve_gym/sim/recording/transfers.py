"""What moves over links, and when each link serves it."""

from __future__ import annotations

from collections import deque

from agentserve_gym.sim.kernel.links import Link
from agentserve_gym.sim.kernel.memory import Topology
from agentserve_gym.sim.kernel.transfers import Load, Offload, PoolCopy, Prefetch, Transfer
from agentserve_gym.sim.recording.history import NOBODY, LinkPassage, RunHistory, TransferNote

_LEAST_BYTES = 0.5
"""Less is rounding."""

_MOST_UNDER_WAY = 100
"""How many transfers are kept before those that have arrived are sorted out."""


class _LinkObserver:
    """One link's passages, in the order in which it serves them.

    A passage ends when the link has moved ``mark`` bytes in all; what the opposite direction queues
    meanwhile may move that.
    """

    def __init__(self, link: Link) -> None:
        self.link = link
        self.booked_bytes = 0.0
        self._ahead: deque[tuple[float, float, LinkPassage]] = deque()
        self._served_until_s = 0.0

    def queued(self, now_s: float, mark_bytes: float, note: TransferNote) -> None:
        """A transfer that began now waits for the link."""
        passage = LinkPassage(self.link.name, now_s, now_s)
        note.passages.append(passage)
        self.booked_bytes = mark_bytes
        self._ahead.append((mark_bytes, now_s, passage))

    def update(self, now_s: float) -> None:
        """Tell anew when the link serves what it has not served yet."""
        ahead, link = self._ahead, self.link
        while ahead and now_s > ahead[0][1] and ahead[0][2].end_s <= now_s:
            self._served_until_s = ahead.popleft()[2].end_s
        until_s = self._served_until_s
        for mark_bytes, queued_s, passage in ahead:
            passage.start_s = max(queued_s, until_s)
            passage.end_s = until_s = max(link.served_s(mark_bytes), passage.start_s)


class TransferObserver:
    """Writes every transfer as it sets out."""

    def __init__(self, topology: Topology, history: RunHistory) -> None:
        self._pools = [tier.pools for tier in topology.tiers]
        self._links = {name: _LinkObserver(link) for name, link in topology.links.items()}
        self._by_opposite = {
            id(found.link.opposite): found
            for found in self._links.values()
            if found.link.opposite is not None
        }
        self._history = history
        self._under_way: dict[Transfer, TransferNote] = {}
        self._most_under_way = _MOST_UNDER_WAY

    def scheduled(self, transfer: Transfer, now_s: float, arrives_s: float) -> None:
        """A transfer set out, or was slowed and arrives later than it should have."""
        note = self._under_way.get(transfer)
        if note is not None:
            note.arrives_s = arrives_s
            return
        if len(self._under_way) > self._most_under_way:
            self._forget_arrived(now_s)
        note = self._under_way[transfer] = _note(transfer, now_s, arrives_s)
        for link in transfer.path.links:
            self._book_rest(self._links[link.name], now_s, link.moved_bytes - transfer.size_bytes)
        self._history.transfers.append(note)
        for link in transfer.path.links:
            self._book(self._links[link.name], now_s, link.moved_bytes, note)

    def observe(self, now_s: float) -> None:
        """Take note of what has crossed links at this instant without being a transfer."""
        for observer in self._links.values():
            self._book_rest(observer, now_s, observer.link.moved_bytes)

    def _forget_arrived(self, now_s: float) -> None:
        self._under_way = {
            transfer: note
            for transfer, note in self._under_way.items()
            if note.arrives_s is not None and note.arrives_s >= now_s
        }
        self._most_under_way = max(2 * len(self._under_way), _MOST_UNDER_WAY)

    def _book_rest(self, observer: _LinkObserver, now_s: float, until_bytes: float) -> None:
        """Note bytes of no transfer: engines write through to a tier, and nothing waits for it."""
        size_bytes = until_bytes - observer.booked_bytes
        if size_bytes < _LEAST_BYTES:
            return
        note = TransferNote(
            "write-through", NOBODY, NOBODY, NOBODY, "", "", size_bytes, now_s, None
        )
        self._history.transfers.append(note)
        self._book(observer, now_s, until_bytes, note)

    def _book(
        self, observer: _LinkObserver, now_s: float, mark_bytes: float, note: TransferNote
    ) -> None:
        observer.queued(now_s, mark_bytes, note)
        observer.update(now_s)
        opposite = self._by_opposite.get(id(observer.link))
        if opposite is not None:
            opposite.update(now_s)


def _note(transfer: Transfer, now_s: float, arrives_s: float) -> TransferNote:
    size_bytes = transfer.size_bytes
    if isinstance(transfer, Load):
        turn = transfer.turn
        return TransferNote(
            "load", turn.program.index, turn.turn.number, turn.instance, transfer.source.name,
            f"instance {turn.instance} hbm", size_bytes, now_s, arrives_s,
        )  # fmt: skip
    assert isinstance(transfer, Offload | Prefetch)
    copy: PoolCopy = transfer
    kind = "offload" if isinstance(transfer, Offload) else "prefetch"
    return TransferNote(
        kind, copy.program.index, copy.program.turns_done - 1, copy.instance, copy.source.name,
        copy.destination.name, size_bytes, now_s, arrives_s,
    )  # fmt: skip
