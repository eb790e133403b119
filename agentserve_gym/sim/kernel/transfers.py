"""KV on its way from one pool to another, and pins that end by time.

They are events: each fires when it is over, and tells the residency model.
"""

from __future__ import annotations

from abc import abstractmethod

from mypy_extensions import mypyc_attr

from agentserve_gym.sim.kernel.copying import Copyable
from agentserve_gym.sim.kernel.events import Clock, Event
from agentserve_gym.sim.kernel.links import Passage, Path
from agentserve_gym.sim.kernel.pools import BlockPool, Key, Pin
from agentserve_gym.sim.kernel.programs import ProgramState
from agentserve_gym.sim.kernel.request import Request


@mypyc_attr(allow_interpreted_subclasses=True)
class TransferHost(Copyable):
    """Whom transfers and pins tell that they have ended."""

    @abstractmethod
    def offload_ended(self, copy: Offload) -> None:
        """The copy in a lower tier is complete."""

    @abstractmethod
    def prefetch_ended(self, copy: Prefetch) -> None:
        """The copy in HBM is complete."""

    @abstractmethod
    def load_ended(self, load: Load) -> None:
        """The KV that a turn waited for is in its instance's HBM."""

    @abstractmethod
    def pin_expired(self, program: ProgramState, pin: Pin) -> None:
        """A pin's deadline is over; it may have ended before, or outlast it."""


@mypyc_attr(allow_interpreted_subclasses=True)
class PinDeadline(Event):
    """The time for which a chain was pinned is over."""

    __slots__ = ("_host", "_pin", "_program")

    def __init__(self, host: TransferHost, program: ProgramState, pin: Pin) -> None:
        self._host = host
        self._program = program
        self._pin = pin

    def fire(self) -> None:
        self._host.pin_expired(self._program, self._pin)


@mypyc_attr(allow_interpreted_subclasses=True)
class Transfer(Event):
    """KV on its way. It fires when it should have arrived, and again where it was slowed.

    Attributes:
        path, size_bytes: which links it crosses, and what it moves; from its start on.
    """

    __slots__ = ("_clock", "_host", "_passage", "path", "size_bytes")

    def __init__(self, host: TransferHost) -> None:
        self._host = host
        self._clock: Clock
        self._passage: Passage
        self.path: Path
        self.size_bytes: float

    def start(self, clock: Clock, path: Path, size_bytes: float) -> None:
        """Set out now."""
        self._clock = clock
        self.path = path
        self.size_bytes = size_bytes
        self._passage = Passage(path, clock.time_s, size_bytes)
        clock.schedule(self._passage.end_s(), self)

    def end_s(self) -> float:
        """When it arrives, as far as is known."""
        return self._passage.end_s()

    def fire(self) -> None:
        end_s = self._passage.end_s()
        if end_s > self._clock.time_s:
            self._clock.schedule(end_s, self)
        else:
            self.arrived()

    @abstractmethod
    def arrived(self) -> None:
        """Tell whoever waits for it."""


@mypyc_attr(allow_interpreted_subclasses=True)
class PoolCopy(Transfer):
    """A copy of a program's KV from one pool to another, on its way; it arrives as a whole.

    Attributes:
        source, source_keys: entries that are held until then.
        destination, taken: where, and how many blocks were taken there.
        targets: how much each entry of the destination will hold at least.
        tier, blocks: the lower one of the two, and how many leading blocks of the chain.
        instance: whose HBM it leaves or enters. ``version``: the program's when it began, which may
            have another chain when it ends.
    """

    __slots__ = (
        "blocks", "destination", "instance", "program", "source", "source_keys", "taken",
        "targets", "tier", "version",
    )  # fmt: skip

    def __init__(
        self,
        host: TransferHost,
        program: ProgramState,
        instance: int,
        source: BlockPool,
        source_keys: tuple[Key, ...],
        tier: int,
        destination: BlockPool,
        blocks: int,
    ) -> None:
        super().__init__(host)
        self.program = program
        self.source = source
        self.source_keys = source_keys
        self.tier = tier
        self.destination = destination
        self.blocks = blocks
        own = (program.index, blocks - program.shared_blocks)
        self.targets: tuple[tuple[Key, int], ...] = (*program.prefix, own)
        self.taken = 0
        self.instance = instance
        self.version = program.version

    def reserve(self) -> bool:
        """Take the blocks that the destination lacks; else do nothing."""
        taken = self.destination.make_room(self.targets)
        if taken < 0:
            return False
        self.taken = taken
        return True

    def hold_source(self) -> None:
        """Keep the source until the copy is complete."""
        self.source.hold(self.source_keys)

    def store(self) -> None:
        """Make the blocks that arrived part of their entries."""
        program = self.program
        stale = program.index if self.version != program.version else None
        self.destination.fill(self.targets, self.taken, stale)


@mypyc_attr(allow_interpreted_subclasses=True)
class Offload(PoolCopy):
    """HBM to a lower tier.

    Attributes:
        stay_warm: whether the source keeps its place among the cached entries.
        gap: the program's in which it was asked for last; it may end in another one.
    """

    __slots__ = ("gap", "stay_warm")

    def covers(self, instance: int, blocks: int) -> bool:
        """Whether it brings these leading blocks from an instance already."""
        return (
            instance == self.instance
            and self.version == self.program.version
            and blocks <= self.blocks
        )

    def asked_for(self, stay_warm: bool) -> None:
        """Let it end as asked for in the present gap."""
        self.stay_warm: bool = stay_warm
        self.gap: int = self.program.gaps

    def arrived(self) -> None:
        self._host.offload_ended(self)


@mypyc_attr(allow_interpreted_subclasses=True)
class Prefetch(PoolCopy):
    """A lower tier to HBM, before the program returns. ``turn``: who waits for it, if that has
    returned."""

    __slots__ = ("turn",)

    def __init__(
        self,
        host: TransferHost,
        program: ProgramState,
        instance: int,
        tier: int,
        source: BlockPool,
        destination: BlockPool,
        blocks: int,
    ) -> None:
        keys = tuple(source.matched_keys(program, blocks))
        super().__init__(host, program, instance, source, keys, tier, destination, blocks)
        self.turn: Request | None = None

    def completes(self, instance: int, hit_blocks: int) -> bool:
        """Whether it brings what follows the leading blocks that an instance has."""
        return (
            instance == self.instance
            and self.version == self.program.version
            and self.blocks - self.taken <= hit_blocks < self.blocks
        )

    def join(self, turn: Request) -> None:
        """Let a turn that reserves its own blocks wait for it, and leave those taken to that."""
        self.turn = turn
        self.destination.give(self.taken)
        self.destination.release([key for key, _ in self.targets])
        self.taken = 0

    def arrived(self) -> None:
        self._host.prefetch_ended(self)


@mypyc_attr(allow_interpreted_subclasses=True)
class Load(Transfer):
    """KV on its way to a turn that has reserved its place in HBM. ``instance``: from whose HBM it
    comes, -1 from a lower tier."""

    __slots__ = ("instance", "source", "source_keys", "turn")

    def __init__(
        self,
        host: TransferHost,
        turn: Request,
        source: BlockPool,
        source_keys: tuple[Key, ...],
        instance: int,
    ) -> None:
        super().__init__(host)
        self.turn = turn
        self.source = source
        self.source_keys = source_keys
        self.instance = instance

    def arrived(self) -> None:
        self._host.load_ended(self)
