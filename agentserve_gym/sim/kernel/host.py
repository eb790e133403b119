"""What the parts of a simulation need from the simulation around them."""

from __future__ import annotations

from abc import abstractmethod

from mypy_extensions import mypyc_attr

from agentserve_gym.sim.kernel.copying import Copyable
from agentserve_gym.sim.kernel.programs import ProgramState
from agentserve_gym.sim.kernel.request import Request


@mypyc_attr(allow_interpreted_subclasses=True)
class Host(Copyable):
    """Whom engines, the residency model and tools tell what has happened."""

    @abstractmethod
    def begin_load(self, request: Request) -> tuple[int, int] | None:
        """Start loading KV for a turn if that pays; returns how many blocks come, and from where
        (``HBM``: another instance's)."""

    @abstractmethod
    def turn_reserved(self, request: Request, loaded_blocks: int, tier: int | None) -> None:
        """The turn has its ``hit_blocks`` and room for the rest; it loads or enters the batch."""

    @abstractmethod
    def turn_finished(self, request: Request) -> None:
        """The turn emitted its last token; its blocks are cached."""

    @abstractmethod
    def turn_preempted(self, request: Request) -> None:
        """The turn lost its place in the batch; what it computed is cached."""

    @abstractmethod
    def blocks_freed(self) -> None:
        """KV blocks of an instance may have come free."""

    @abstractmethod
    def tools_done(self, program: ProgramState) -> None:
        """The tool calls of the program's gap are over."""


@mypyc_attr(allow_interpreted_subclasses=True)
class Watcher(Copyable):
    """Whoever sees an engine with a delay, and so must hear of every change."""

    @abstractmethod
    def load_changed(self) -> None:
        """The engine's load has changed."""

    @abstractmethod
    def entry_changed(self, key: int | str, blocks: int) -> None:
        """An entry of its pool has another length now."""


@mypyc_attr(allow_interpreted_subclasses=True)
class StepWatcher(Copyable):
    """Whoever sees an engine as its metrics show it, which change when a step ends."""

    @abstractmethod
    def metrics_shown(self, began_s: float) -> None:
        """A step that began at ``began_s`` has ended: its metrics show the engine as it is now,
        without the turns that came since then."""
