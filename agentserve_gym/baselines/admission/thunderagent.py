"""ThunderAgent: pause programs before they thrash, restore them where there is room."""

from __future__ import annotations

from dataclasses import dataclass

from agentserve_gym.baselines.admission.gate import Gate, release_order
from agentserve_gym.baselines.contexts import SharedContexts, own_tokens
from agentserve_gym.baselines.parts import number
from agentserve_gym.baselines.registry import register, register_bundle
from agentserve_gym.sim import ClusterView, ProgramState, ProgramStatus, RouteDecision


@register(
    "thunderagent",
    "pause acting and small programs while reasoning contexts + acting ones x 2^(-gap) exceed HBM; "
    "restore the smallest first, anywhere",
    "ThunderAgent (arXiv 2602.13692)",
    ("paused", "restored", "started"),
)
@dataclass
class ThunderAgent(Gate):
    """Every ``interval_s``, each instance's demand is compared with its HBM: contexts of reasoning
    programs count whole, those of acting ones halve every ``half_life_s`` of their gap, and what
    programs share counts once. Above ``most`` of HBM, programs are paused by 1 / context + 1 if
    acting, highest first; a paused or new one is let in where demand stays below ``least``. A
    reasoning program pauses at its next turn boundary. Restored is by 1 / context + 1 if reasoning,
    highest first: a program that waits for a turn reasons, so that is the shortest context first.
    """

    order: str = release_order("shortest_context")
    interval_s: float = number(1.0, low=1e-3)
    half_life_s: float = number(1.0, low=1e-3)
    most: float = number(1.0, low=1e-3)
    least: float = number(0.9, low=1e-3)

    def reset(self) -> None:
        super().reset()
        self._replica: dict[int, int] = {}
        self._context: dict[int, int] = {}
        self._paused: set[int] = set()
        self._checked_s = -self.interval_s

    def admits(self, decision: RouteDecision, instance: int) -> bool:
        if decision.time_s - self._checked_s >= self.interval_s:
            self._checked_s = decision.time_s
            self._check(decision)
        index = decision.program.index
        if index in self._replica and index not in self._paused:
            return True
        self._context[index] = decision.turn.prompt_tokens
        demand = self._demand(decision.cluster, instance, decision.time_s, besides=index)
        room = self.least * self._capacity(decision.cluster, instance) - demand.tokens
        more = demand.added(decision.program, decision.turn.prompt_tokens)
        return not demand.tokens or more <= room

    def _check(self, decision: RouteDecision) -> None:
        """Pause programs until every instance's demand fits."""
        cluster, now_s = decision.cluster, decision.time_s
        self._forget_finished(cluster)
        for view in cluster.instances:
            limit = self.most * self._capacity(cluster, view.index)
            demand = self._demand(cluster, view.index, now_s).tokens
            if demand <= limit:
                continue
            members = [cluster.programs[index] for index in self._members(view.index)]
            for program in sorted(members, key=self._pause_score, reverse=True):
                if demand <= limit:
                    break
                own = own_tokens(program, self._tokens(program), view.block_size_tokens)
                demand -= own * self._weight(program, now_s)
                self._paused.add(program.index)
                self.count("paused")

    def _members(self, instance: int) -> list[int]:
        return [i for i, at in self._replica.items() if at == instance and i not in self._paused]

    def _pause_score(self, program: ProgramState) -> tuple[float, int]:
        acting = program.status is ProgramStatus.TOOL_GAP
        return (1.0 / max(self._tokens(program), 1) + acting, -program.index)

    def _tokens(self, program: ProgramState) -> int:
        if program.status is ProgramStatus.TOOL_GAP:
            return program.context_tokens
        return max(program.context_tokens, self._context.get(program.index, 0))

    def _weight(self, program: ProgramState, now_s: float) -> float:
        """How much of its context a program is worth now."""
        if program.status is not ProgramStatus.TOOL_GAP:
            return 1.0
        return float(2.0 ** (-(now_s - program.gap_started_s) / self.half_life_s))

    def _demand(
        self, cluster: ClusterView, instance: int, now_s: float, besides: int = -1
    ) -> SharedContexts:
        programs = cluster.programs
        demand = SharedContexts(cluster.instances[instance].block_size_tokens)
        for index in self._members(instance):
            if index != besides and index in programs:
                program = programs[index]
                demand.add(program, self._tokens(program), self._weight(program, now_s))
        return demand

    @staticmethod
    def _capacity(cluster: ClusterView, instance: int) -> int:
        view = cluster.instances[instance]
        return view.kv_blocks * view.block_size_tokens

    def _forget_finished(self, cluster: ClusterView) -> None:
        live = cluster.programs
        self._replica = {i: at for i, at in self._replica.items() if i in live}
        self._context = {i: tokens for i, tokens in self._context.items() if i in live}
        self._paused &= live.keys()

    def lane(self, instance: int) -> int:  # noqa: ARG002
        return 0

    def dispatched(self, decision: RouteDecision, instance: int) -> None:
        index = decision.program.index
        if index in self._paused:
            self._paused.discard(index)
            self.count("restored")
        elif index not in self._replica:
            self.count("started")
        self._replica[index] = instance
        self._context[index] = decision.turn.prompt_tokens


register_bundle(
    "thunderagent_system",
    "owner+thunderagent",
    "ThunderAgent with its router",
    "ThunderAgent (arXiv 2602.13692)",
)
