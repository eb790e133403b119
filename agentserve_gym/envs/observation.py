"""Observations: what a live router knows at a decision, as numbers in [0, 1].

They come from decisions and views only, never from the simulation behind them, so they cannot hold
a program's future. A ``FeatureWriter`` packs raw numbers, ``Scaling`` scales those of one or many
simulations by a handful of array operations.
"""

from __future__ import annotations

from collections.abc import Sequence
from struct import Struct
from typing import Any

import numpy as np
from numpy.typing import NDArray

from agentserve_gym.envs.features import ObservationLayout
from agentserve_gym.envs.instance_rows import InstanceRows
from agentserve_gym.envs.prefill_estimate import PrefillEstimate
from agentserve_gym.envs.recent_calls import KindFeatures, OverallFeatures
from agentserve_gym.envs.scaling import Scaling
from agentserve_gym.hardware.pricing.timing import BatchStep
from agentserve_gym.sim import (
    ClusterView,
    Decision,
    InstanceView,
    Phase,
    PlacementDecision,
    RouteDecision,
)
from agentserve_gym.sim.kernel.tool_statistics import KindStatistics, ToolStatistics

_REFERENCE_PREFILL_TOKENS = 8192
_REFERENCE_DECODE = BatchStep(
    decode_count=32,
    decode_context_tokens=32 * 8192,
    decode_max_context_tokens=8192,
    sampled_count=32,
)
_QUEUE = int(Phase.QUEUE)


class ObservationBuilder:
    """Observations of one cluster.

    Attributes:
        layout: where each feature lies.
        writer: packs the raw numbers.
    """

    def __init__(
        self, max_instances: int, pin_ttls_s: Sequence[float], tiers: Sequence[str]
    ) -> None:
        """Lay out observations with ``max_instances`` rows, shares for these pin TTLs, and room for
        these lower tiers; those that a cluster lacks are zero."""
        self.layout = ObservationLayout(max_instances, pin_ttls_s, tiers)
        self.writer = FeatureWriter(self.layout, pin_ttls_s)
        self._ttls_s = tuple(pin_ttls_s)
        self._scaling = Scaling(self.layout, max_instances, 1)

    def __getstate__(self) -> dict[str, Any]:
        layout = self.layout
        return {
            "max_instances": layout.max_instances,
            "pin_ttls_s": self._ttls_s,
            "tiers": layout.tiers,
        }

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Lay out anew: whoever copies or unpickles a builder attaches it before use."""
        self.__init__(**state)  # type: ignore[misc]

    def attach(self, cluster: ClusterView) -> None:
        """Begin an episode on a cluster: write what never changes within it."""
        self.writer.attach(cluster)
        if self._scaling.instances != len(cluster.instances):
            self._scaling = Scaling(self.layout, len(cluster.instances), 1)
        self._scaling.write_static(0, self.writer.static_values())

    def write(self, decision: Decision | None) -> NDArray[np.float32]:
        """Observe a decision, or the cluster when nothing is asked (any more).

        Returns:
            A new float32 array of shape ``(layout.size,)``.
        """
        self.writer.write(decision, self._scaling.memory, 0)
        observation: NDArray[np.float32] = self._scaling.observe()[0]
        return observation


class FeatureWriter:
    """Packs the raw numbers of one cluster's observations, as float64, in the order of the layout
    but for what is constant in an episode."""

    def __init__(self, layout: ObservationLayout, pin_ttls_s: Sequence[float]) -> None:
        self._ttls_s = tuple(pin_ttls_s)
        self._blank = (0.0,) * sum(
            len(layout.groups[group]) for group in ("decision", "program", "tools")
        )
        self._unknown_tool = KindFeatures(KindStatistics(), self._ttls_s).values()
        self._once = Struct(f"{layout.instances_start}d")
        self._tiers = layout.tiers
        self._not_priced = (0.0,) * (1 + len(layout.tiers))
        self._rows = InstanceRows(layout)
        self._cluster: ClusterView
        self._prefill_s: list[PrefillEstimate] = []
        self._kinds: dict[str, KindFeatures] = {}
        self._overall = OverallFeatures(KindStatistics(), self._ttls_s)

    def attach(self, cluster: ClusterView) -> None:
        """Begin an episode on a cluster."""
        self._cluster = cluster
        self._prefill_s = self._estimates_of(cluster.instances)
        self._rows.attach(cluster, self._prefill_s)
        self._kinds = {}
        self._overall = OverallFeatures(cluster.tools.overall, self._ttls_s)

    def static_values(self) -> list[float]:
        """Raw static features of each instance, one instance after the other."""
        cluster, values = self._cluster, []
        for view, prefill_s in zip(cluster.instances, self._prefill_s, strict=True):
            values += [
                1.0,
                float(view.kv_blocks * view.block_size_tokens),
                prefill_s(_REFERENCE_PREFILL_TOKENS, 0),
                view.latency.step_s(_REFERENCE_DECODE),
                *(float(cluster.reaches(view.index, tier)) for tier in self._tiers),
            ]
        return values

    def write(self, decision: Decision | None, memory: bytearray, offset: int) -> None:
        """Pack what a decision shows, ``offset`` bytes into ``memory``; without a decision, what
        the cluster shows when nothing is asked (any more)."""
        if decision is None:
            self._rows.at_end(memory, offset + self._once.size)
            self._pack(self._blank, False, memory, offset)
            return
        program = decision.program
        if isinstance(decision, RouteDecision):
            self._rows.at_route(decision.turn, memory, offset + self._once.size)
            single = self._route_features(decision)
        else:
            self._rows.at_placement(program, memory, offset + self._once.size)
            single = self._placement_features(decision)
        single += self._tool_features(
            decision.cluster.tools, program.gap_tool_kinds, program.gap_kind
        )
        self._pack(single, isinstance(decision, RouteDecision), memory, offset)

    # --- groups ------------------------------------------------------------------------------

    def _route_features(self, decision: RouteDecision) -> list[float]:
        turn = decision.turn
        prompt_tokens = turn.prompt_tokens
        return [
            1.0,
            0.0,
            decision.may_hold,
            decision.offers,
            decision.time_s - turn.ready_s,
            *_program_features(decision, prompt_tokens, prompt_tokens - turn.reuse_tokens),
            *self._not_priced,
        ]

    def _placement_features(self, decision: PlacementDecision) -> list[float]:
        program, home = decision.program, decision.instance
        return [
            0.0,
            1.0,
            0.0,
            0.0,
            0.0,
            *_program_features(decision, 0, 0),
            self._prefill_s[home](program.context_tokens, 0),
            *self._offload_times(decision),
        ]

    def _offload_times(self, decision: PlacementDecision) -> list[float]:
        """Seconds to offload to each lower tier what is not there yet; 0 for one out of reach."""
        cluster, program, home = decision.cluster, decision.program, decision.instance
        context, rows = program.context_tokens, self._rows
        return [
            cluster.offload_s(program, tier.name, max(context - tier.tokens_at(home), 0))
            if cluster.reaches(home, tier.name)
            else 0.0
            for tier in rows.tiers
        ]

    def _tool_features(
        self, tools: ToolStatistics, kinds: tuple[str, ...], gap_kind: str
    ) -> tuple[float, ...]:
        """Statistics of the slowest known kind of the gap that begins (placement) or ended."""
        slowest: KindStatistics | None = None
        slowest_name = ""
        for name in kinds or (gap_kind,):
            kind = tools.kind(name)
            if kind is not None and (slowest is None or kind.mean_s > slowest.mean_s):
                slowest, slowest_name = kind, name
        return (
            gap_kind == "user",
            len(kinds),
            slowest is not None,
            *(self._unknown_tool if slowest is None else self._of_kind(slowest_name, slowest)),
            *self._overall.values(),
        )

    def _of_kind(self, name: str, kind: KindStatistics) -> tuple[float, ...]:
        followed = self._kinds.get(name)
        if followed is None:
            followed = self._kinds[name] = KindFeatures(kind, self._ttls_s)
        return followed.values()

    # --- parts -------------------------------------------------------------------------------

    def _pack(self, single: Sequence[float], routing: bool, memory: bytearray, offset: int) -> None:
        """Add the global group and pack all that occurs once."""
        cluster, rows = self._cluster, self._rows
        live, held = cluster.live_programs, cluster.held_turns
        share = 1.0 / rows.pool_blocks
        self._once.pack_into(
            memory,
            offset,
            *single,
            cluster.now_s,
            live,
            max(live - rows.sent_turns - held - routing, 0),
            held,
            rows.sent_turns,
            rows.queued_turns,
            cluster.live_context_tokens / rows.pool_tokens,
            1.0 - (rows.free_blocks + rows.cached_blocks) * share,
            rows.cached_blocks * share,
            *(tier.mean_used for tier in rows.tiers),
        )

    def _estimates_of(self, views: Sequence[InstanceView]) -> list[PrefillEstimate]:
        """An estimate per instance: one object for those alike, also of the episode before."""
        known = {id(estimate.latency): estimate for estimate in self._prefill_s}
        found = []
        for view in views:
            budget = view.max_num_batched_tokens
            estimate = known.get(id(view.latency))
            if (
                estimate is None
                or estimate.latency is not view.latency
                or estimate.budget != budget
            ):
                estimate = known[id(view.latency)] = PrefillEstimate(view.latency, budget)
            found.append(estimate)
        return found


def _program_features(decision: Decision, prompt_tokens: int, new_tokens: int) -> tuple[float, ...]:
    """The program group but for the prices at its end."""
    program = decision.program
    elapsed = decision.time_s - program.arrival_s
    turns, gaps, generated = program.turns_done, program.gaps, program.generated_tokens
    return (
        turns,
        program.context_tokens,
        prompt_tokens,
        new_tokens,
        generated,
        generated / turns if turns else 0.0,
        elapsed,
        program.attained_service_s,
        program.phase_s[_QUEUE] / elapsed if elapsed > 0.0 else 0.0,
        gaps,
        program.gap_total_s / gaps if gaps else 0.0,
        program.last_gap_s,
        program.parent is not None,
        program.home >= 0,
        program.pinned_at >= 0 and decision.cluster.is_pinned(program),
    )
