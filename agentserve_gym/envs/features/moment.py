"""What a decision shows, with what several features need of it computed once.

It comes from decisions and views only, never from the simulation behind them, so a feature cannot
hold a program's future.
"""

from __future__ import annotations

from collections.abc import Sequence

from agentserve_gym.envs.features.instances import InstanceColumns, TierColumns
from agentserve_gym.envs.features.recent_calls import CallSummary
from agentserve_gym.sim.decisions import Decision, RouteDecision
from agentserve_gym.sim.kernel.programs import QUEUE, ProgramState
from agentserve_gym.sim.kernel.tool_statistics import KindStatistics
from agentserve_gym.sim.views import ClusterView


class Moment:
    """One cluster at one decision, or when nothing is asked (any more).

    What says something of a program is from the decision before where nothing is asked.

    Attributes:
        cluster: the router's view of it.
        instances: its instances, column by column. ``tiers``: its lower tiers, likewise.
        ttls_s: the pin TTLs that there are features of.
        routing, placing: whether a turn needs an instance; whether a tool gap began. At most one.
        may_hold, offers: of the turn; false and 0 at a placement.
        wait_s: time since the turn was ready; 0 at a placement.
        since_gap_began_s: time since the gap began; 0 where its placement is asked first, and at a
            route.
        program: whose turn or gap it is.
        home: instance of its last turn; -1 before the first, and where nothing is asked.
        elapsed_s, queue_s: time since its arrival, and how much of it was spent in queues.
        prompt_tokens, new_tokens: of the turn, and those never computed before; 0 at a placement.
        per_token: 1 over the tokens of the prompt or context; 0 without any.
        tool: calls of the slowest known kind of the gap that begins (placement) or ended.
        overall: all completed calls.
    """

    def __init__(self, pin_ttls_s: Sequence[float], tiers: Sequence[str]) -> None:
        """Follow no cluster yet."""
        self.tiers = [TierColumns(name) for name in tiers]
        self.instances = InstanceColumns(self.tiers)
        self.cluster: ClusterView
        self.program: ProgramState
        self.routing = False
        self.placing = False
        self.may_hold = False
        self.offers = 0
        self.wait_s = 0.0
        self.since_gap_began_s = 0.0
        self.queue_s = 0.0
        self.home = -1
        self.elapsed_s = 0.0
        self.prompt_tokens = 0
        self.new_tokens = 0
        self.per_token = 0.0
        self.ttls_s = tuple(pin_ttls_s)
        self._unknown = CallSummary(KindStatistics(), self.ttls_s)
        self._kinds: dict[str, CallSummary] = {}
        self.tool = self.overall = self._unknown

    def attach(self, cluster: ClusterView) -> None:
        """Begin an episode on a cluster."""
        self.cluster = cluster
        self.instances.attach(cluster)
        self._kinds = {}
        self.overall = CallSummary(cluster.tools.overall, self.ttls_s)

    def show(self, decision: Decision | None) -> None:
        """Look at a decision, or at the cluster when nothing is asked."""
        if decision is None:
            self.routing = self.placing = False
            self.home = -1
            self.per_token = 0.0
            self.instances.of_nobody()
            return
        program = self.program = decision.program
        self.home = program.home
        if isinstance(decision, RouteDecision):
            turn = decision.turn
            self.routing, self.placing = True, False
            self.may_hold, self.offers = decision.may_hold, decision.offers
            self.wait_s = decision.time_s - turn.ready_s
            self.since_gap_began_s = 0.0
            tokens = self.prompt_tokens = turn.prompt_tokens
            self.new_tokens = tokens - turn.reuse_tokens
            self.instances.of_turn(turn)
        else:
            self.routing, self.placing = False, True
            self.may_hold, self.offers = False, 0
            self.wait_s = 0.0
            self.since_gap_began_s = decision.elapsed_s
            self.prompt_tokens = self.new_tokens = 0
            tokens = program.context_tokens
            self.instances.of_program(program)
        self.queue_s = program.phase_s[QUEUE]
        self.elapsed_s = decision.time_s - program.arrival_s
        self.per_token = 1.0 / tokens if tokens else 0.0
        self.tool = self._slowest_known(program.gap_tool_kinds or (program.gap_kind,))
        self.tool.refresh()
        self.overall.refresh()

    def context_recompute_s(self) -> float:
        """Seconds to compute the program's whole context anew on its idle home."""
        return self.instances.prefill_s[self.home].seconds(self.program.context_tokens, 0)

    def offload_s(self, tier: TierColumns) -> float:
        """Seconds to offload to a lower tier what of the program's context is not there yet; 0 for
        one out of reach."""
        if not self.cluster.reaches(self.home, tier.name):
            return 0.0
        missing = max(self.program.context_tokens - tier.tokens[self.home], 0)
        return self.cluster.offload_s(self.program, tier.name, missing)

    def _slowest_known(self, kinds: tuple[str, ...]) -> CallSummary:
        """Calls of the kind with the longest mean; of none where no kind has a completed call."""
        tools = self.cluster.tools
        slowest: KindStatistics | None = None
        slowest_name = ""
        for name in kinds:
            kind = tools.kind(name)
            if kind is not None and (slowest is None or kind.mean_s > slowest.mean_s):
                slowest, slowest_name = kind, name
        if slowest is None:
            return self._unknown
        found = self._kinds.get(slowest_name)
        if found is None:
            found = self._kinds[slowest_name] = CallSummary(slowest, self.ttls_s)
        return found
