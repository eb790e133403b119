"""How much HBM started programs want, per instance, kept up to date event by event."""

from __future__ import annotations

from mypy_extensions import mypyc_attr

from agentserve_gym.sim.kernel.copying import Copyable
from agentserve_gym.sim.kernel.programs import ProgramState
from agentserve_gym.sim.views import ClusterView

_NOTHING_TOKENS = 1.0
"""Less than this is what rounding leaves."""


@mypyc_attr(allow_interpreted_subclasses=True)
class Member(Copyable):
    """A started program on an instance.

    Attributes:
        own_tokens: of its context beyond its shared prefix; ``shared``: the levels of that, each
            (key, tokens).
        acting_since_s: when its tool gap began, ``None`` while it reasons; and at which count of
            half-lives that was, ``acting_since_half_lives``.
    """

    __slots__ = (
        "acting_since_half_lives",
        "acting_since_s",
        "instance",
        "own_tokens",
        "program",
        "shared",
    )

    def __init__(
        self,
        program: ProgramState,
        instance: int,
        own_tokens: float,
        shared: tuple[tuple[str, int], ...],
    ) -> None:
        self.program = program
        self.instance = instance
        self.own_tokens = own_tokens
        self.shared = shared
        self.acting_since_s: float | None = None
        self.acting_since_half_lives = 0.0


@mypyc_attr(allow_interpreted_subclasses=True)
class Level(Copyable):
    """A level of a shared prefix, which started programs of an instance have in common.

    Attributes:
        sharers: programs that share it; ``reasoning``: those of them that do not wait for a tool.
        idle_since_half_lives: when the last of these stopped, while there are none.
    """

    __slots__ = ("idle_since_half_lives", "reasoning", "sharers", "tokens")

    def __init__(self, tokens: int) -> None:
        self.tokens = tokens
        self.sharers = 0
        self.reasoning = 0
        self.idle_since_half_lives = 0.0


@mypyc_attr(allow_interpreted_subclasses=True)
class Demand(Copyable):
    """Contexts of programs that reason count whole, those of programs that wait for tools halve
    every ``half_life_s`` of their gap; what programs share counts once an instance, and halves
    while all of them wait (ThunderAgent, arXiv 2602.13692). A sum that decays as a whole needs no
    walk over programs, and as time is counted in half-lives, these may change on the way."""

    def __init__(self) -> None:
        self._half_life_s = 1.0
        self._half_lives = 0.0
        self._counted_s = 0.0
        self._members: dict[int, Member] = {}
        self._reasoning: dict[int, float] = {}
        self._acting: dict[int, tuple[float, float]] = {}
        self._levels: dict[tuple[int, str], Level] = {}

    def __contains__(self, program: ProgramState) -> bool:
        return program.index in self._members

    def decay(self, half_life_s: float, now_s: float) -> None:
        """Halve what waits every ``half_life_s`` from now on."""
        self._half_lives = self._half_lives_at(now_s)
        self._counted_s, self._half_life_s = now_s, half_life_s

    def instances(self) -> list[int]:
        """Those on which programs were started."""
        return list(self._reasoning)

    def members(self, instance: int) -> list[Member]:
        """The started programs of an instance."""
        return [member for member in self._members.values() if member.instance == instance]

    def tokens(self, instance: int, now_s: float) -> float:
        """What the started programs of an instance want, tokens."""
        total = self._reasoning.get(instance, 0.0) + self._acting_tokens(instance, now_s)
        return total if total > _NOTHING_TOKENS else 0.0

    def added_tokens(
        self, instance: int, program: ProgramState, prompt: int, size: int, now_s: float
    ) -> float:
        """What one more program with a ``prompt`` would add, in blocks of ``size`` tokens."""
        more, shared = _parts(program, prompt, size)
        for key, tokens in shared:
            level = self._levels.get((instance, key))
            more += tokens if level is None else tokens - self._counted_tokens(level, now_s)
        return more

    def forget_finished(self, cluster: ClusterView) -> None:
        """Leave out programs that are done."""
        live = cluster.programs
        for index in [index for index in self._members if index not in live]:
            self._remove(index, cluster.now_s)

    def enter(
        self, program: ProgramState, instance: int, prompt: int, size: int, now_s: float
    ) -> None:
        """A turn with a ``prompt`` goes to an instance that has blocks of ``size`` tokens."""
        self._remove(program.index, now_s)
        own, shared = _parts(program, prompt, size)
        self._members[program.index] = Member(program, instance, own, shared)
        total = own
        for key, tokens in shared:
            level = self._levels.get((instance, key))
            if level is None:
                level = self._levels[instance, key] = Level(tokens)
            elif not level.reasoning:
                self._add_acting(instance, -self._counted_tokens(level, now_s), now_s)
            if not level.reasoning:
                total += level.tokens
            level.sharers += 1
            level.reasoning += 1
        self._reasoning[instance] = self._reasoning.get(instance, 0.0) + total

    def gap_began(self, program: ProgramState, size: int, now_s: float) -> None:
        """A turn ended."""
        member = self._members.get(program.index)
        if member is None or member.acting_since_s is not None:
            return
        self._reasoning[member.instance] -= member.own_tokens
        member.own_tokens, _ = _parts(program, program.context_tokens, size)
        member.acting_since_s = now_s
        member.acting_since_half_lives = self._half_lives_at(now_s)
        self._add_acting(member.instance, member.own_tokens, now_s)
        for key, _ in member.shared:
            self._stopped_reasoning(member.instance, key, now_s)

    def leave(self, program: ProgramState, now_s: float) -> None:
        """A program waits at the router."""
        self._remove(program.index, now_s)

    def _remove(self, index: int, now_s: float) -> None:
        member = self._members.pop(index, None)
        if member is None:
            return
        instance = member.instance
        if member.acting_since_s is None:
            self._reasoning[instance] -= member.own_tokens
        else:
            elapsed = self._half_lives_at(now_s) - member.acting_since_half_lives
            self._add_acting(instance, -_halved(member.own_tokens, elapsed), now_s)
        for key, _ in member.shared:
            if member.acting_since_s is None:
                self._stopped_reasoning(instance, key, now_s)
            level = self._levels[instance, key]
            level.sharers -= 1
            if not level.sharers:
                self._add_acting(instance, -self._counted_tokens(level, now_s), now_s)
                del self._levels[instance, key]

    def _stopped_reasoning(self, instance: int, key: str, now_s: float) -> None:
        """One of those that share a level reasons no more."""
        level = self._levels[instance, key]
        level.reasoning -= 1
        if not level.reasoning:
            level.idle_since_half_lives = self._half_lives_at(now_s)
            self._reasoning[instance] -= level.tokens
            self._add_acting(instance, level.tokens, now_s)

    def _counted_tokens(self, level: Level, now_s: float) -> float:
        """What of a level counts now."""
        if level.reasoning:
            return float(level.tokens)
        return _halved(level.tokens, self._half_lives_at(now_s) - level.idle_since_half_lives)

    def _add_acting(self, instance: int, tokens: float, now_s: float) -> None:
        left = self._acting_tokens(instance, now_s)
        self._acting[instance] = (left + tokens, self._half_lives_at(now_s))

    def _acting_tokens(self, instance: int, now_s: float) -> float:
        tokens, then = self._acting.get(instance, (0.0, 0.0))
        return _halved(tokens, self._half_lives_at(now_s) - then) if tokens > 0.0 else 0.0

    def _half_lives_at(self, now_s: float) -> float:
        """Half-lives so far, of whatever length they were."""
        return self._half_lives + (now_s - self._counted_s) / self._half_life_s


def _halved(tokens: float, times: float) -> float:
    return float(tokens * 2.0**-times)


def _parts(
    program: ProgramState, context_tokens: int, size: int
) -> tuple[float, tuple[tuple[str, int], ...]]:
    """Of a context: own tokens, and the levels of its shared prefix, each (key, tokens)."""
    shared = tuple((key, blocks * size) for key, blocks in program.prefix)
    own = context_tokens - program.shared_blocks * size
    return float(own if own > 0 else 0), shared
