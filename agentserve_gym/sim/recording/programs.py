"""What programs do, as their stages change.

Nobody looks at all programs at every instant. Away from engines a program does something else only
when its turn is offered; at an engine, when that plans steps or a load arrives.
"""

from __future__ import annotations

from agentserve_gym.sim.kernel.engine import Engine
from agentserve_gym.sim.kernel.programs import DONE, HELD, Phase, ProgramState
from agentserve_gym.sim.orchestrator import Orchestrator
from agentserve_gym.sim.recording.history import (
    NOBODY,
    ProgramNote,
    RunHistory,
    Stage,
    StageSlice,
)

_STAGES = {
    Phase.QUEUE: Stage.QUEUE,
    Phase.LOAD: Stage.LOAD,
    Phase.PREFILL: Stage.PREFILL,
    Phase.DECODE: Stage.DECODE,
}


class _Follower:
    """A live program, and what it was seen to do last."""

    __slots__ = ("instance", "phase_since_s", "program", "stage", "start_s", "status", "turn")

    def __init__(self, program: ProgramState) -> None:
        self.program = program
        self.status = program.status
        self.phase_since_s = program.phase_since_s
        self.start_s = program.phase_since_s
        self.stage = Stage.HELD
        self.turn = 0
        self.instance = NOBODY

    @property
    def has_changed(self) -> bool:
        program = self.program
        return program.phase_since_s != self.phase_since_s or program.status is not self.status


class _Place:
    """An engine, and who is there."""

    __slots__ = ("engine", "followers", "loading")

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.followers: dict[int, _Follower] = {}
        self.loading = 0


class ProgramObserver:
    """Writes the stages of all programs."""

    def __init__(
        self,
        orchestrator: Orchestrator,
        engines: list[Engine],
        session_timeout_s: float,
        history: RunHistory,
    ) -> None:
        self._orchestrator = orchestrator
        self._session_timeout_s = session_timeout_s
        self._history = history
        self._places = [_Place(engine) for engine in engines]
        self._followers: dict[int, _Follower] = {}
        self._away: dict[int, _Follower] = {}
        self._left: list[_Follower] = []
        self._offered: dict[int, ProgramState] = {}
        self._sent: dict[int, int] = {}

    def offered(self, program: ProgramState) -> None:
        """A program's turn was offered at this instant."""
        self._offered[program.index] = program

    def routed(self, program: int, instance: int) -> None:
        """A program's turn went to an instance at this instant."""
        self._sent[program] = instance

    def observe(self, now_s: float, planned: list[int]) -> None:
        """Take note of what has changed at this instant; ``planned``: the instances that have
        planned steps."""
        if self._offered:
            for index, program in self._offered.items():
                follower = self._followers.get(index)  # still at an instance after no gap
                if follower is None:
                    self._meet(program)
                else:
                    self._look(follower, now_s)
            self._offered.clear()
        for instance in planned:
            self._look_at(self._places[instance], now_s)
        for place in self._places:
            # An idle engine may plan a load and no steps.
            if place.followers and (place.loading or place.engine.segment is None):
                self._look_at(place, now_s)

    def finish(self, now_s: float) -> None:
        """The run ends here."""
        for place in self._places:
            self._look_at(place, now_s)
            for follower in place.followers.values():
                self._write(follower, now_s)
        for follower in list(self._away.values()):
            self._look(follower, now_s)
            self._write(follower, now_s)
        for follower in self._left:
            self._write(follower, min(now_s, follower.start_s + self._session_timeout_s))
        self._history.stages.sort(key=lambda found: (found.end_s, found.program))

    def _look_at(self, place: _Place, now_s: float) -> None:
        for follower in list(place.followers.values()):
            self._look(follower, now_s)

    def _look(self, follower: _Follower, now_s: float) -> None:
        """Take note of what a program does, if that is something else than before."""
        if not follower.has_changed:
            return
        program = follower.program
        phase_since_s = program.phase_since_s
        changed_s = phase_since_s if phase_since_s != follower.phase_since_s else now_s
        self._write(follower, changed_s)
        self._forget(follower)
        follower.status, follower.phase_since_s = program.status, phase_since_s
        follower.start_s = changed_s
        if follower.status is not DONE:
            self._enter_stage(follower)

    def _meet(self, program: ProgramState) -> None:
        """A program arrived."""
        parent = program.parent.index if program.parent is not None else NOBODY
        self._history.programs.append(
            ProgramNote(
                program.index, program.program_id, program.agent_class, program.model, parent
            )
        )
        self._followers[program.index] = follower = _Follower(program)
        self._enter_stage(follower)

    def _enter_stage(self, follower: _Follower) -> None:
        program = follower.program
        follower.stage = stage = self._stage_of(program)
        away = stage is Stage.HELD or stage is Stage.GAP
        follower.turn = program.turns_done - (stage is Stage.GAP or stage is Stage.LEFT)
        if stage is Stage.LEFT:
            self._left.append(follower)
        elif away:
            follower.instance = NOBODY if stage is Stage.HELD else follower.instance
            self._away[program.index] = follower
        else:
            follower.instance = self._sent.pop(program.index, follower.instance)
            place = self._places[follower.instance]
            place.followers[program.index] = follower
            place.loading += stage is Stage.LOAD

    def _forget(self, follower: _Follower) -> None:
        """A program leaves where it was."""
        index = follower.program.index
        if self._away.pop(index, None) is None:
            place = self._places[follower.instance]
            del place.followers[index]
            place.loading -= follower.stage is Stage.LOAD

    def _write(self, follower: _Follower, end_s: float) -> None:
        if end_s > follower.start_s:
            self._history.stages.append(
                StageSlice(
                    follower.program.index, follower.turn, follower.stage, follower.instance,
                    follower.start_s, end_s,
                )
            )  # fmt: skip

    def _stage_of(self, program: ProgramState) -> Stage:
        phase = program.phase
        if phase is Phase.GAP:
            turns = len(self._orchestrator.plan_of(program).turns)
            return Stage.GAP if program.turns_done < turns else Stage.LEFT
        return Stage.HELD if program.status is HELD else _STAGES[phase]
