"""What oracles share: the simulation they look into, and how they read the future from it."""

from __future__ import annotations

from math import inf
from typing import TYPE_CHECKING, Any

from agentserve_gym.sim import ProgramState

if TYPE_CHECKING:
    from agentserve_gym.sim import Simulation


class Foresight:
    """Mixin of oracle parts. The simulation must be given with ``bind`` before the first decision;
    copies and pickles of the part leave it out, so they must be bound anew."""

    is_oracle = True
    _simulation: Simulation | None = None

    def bind(self, simulation: Simulation) -> None:
        """Look into this simulation from now on."""
        self._simulation = simulation

    @property
    def simulation(self) -> Simulation:
        """The bound simulation.

        Raises:
            RuntimeError: if there is none.
        """
        if self._simulation is None:
            name = getattr(self, "name", type(self).__name__)
            raise RuntimeError(
                f"{name} is an oracle: call policy.bind(simulation) first, or use run_policy"
            )
        return self._simulation

    def gap_left_s(self, program: ProgramState, elapsed_s: float) -> float:
        """What is left of a program's gap as its plan has it, infinite after the last turn;
        sub-agents, failures and waits for a tool's slot may make it longer."""
        plan = self.simulation.orchestrator.plan_of(program)
        turn = plan.turns[program.turns_done - 1]
        return inf if turn.gap_kind == "end" else max(turn.gap_s - elapsed_s, 0.0)

    def __getstate__(self) -> dict[str, Any]:
        return {key: value for key, value in self.__dict__.items() if key != "_simulation"}
