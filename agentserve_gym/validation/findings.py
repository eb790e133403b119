"""Everything that one validation run found, as one value."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from agentserve_gym.validation.ablations import AblationResult, PoolError
from agentserve_gym.validation.conversation_study import CellResult, WithheldResult
from agentserve_gym.validation.reuse import ReuseResult
from agentserve_gym.validation.router_runs import RouterStage
from agentserve_gym.validation.steps import ForwardPasses, StepErrors
from agentserve_gym.validation.study import CaseResult, UnmeasuredResult
from agentserve_gym.validation.trends.trend import Trend


@dataclass(slots=True)
class Findings:
    """What was run; a part that was not run is empty.

    Attributes:
        cells: measured closed-loop cells. ``withheld``: such cells without their measurements.
        cases: measured cases, one result per timing source. ``unmeasured``: published runs of which
            only the workload is here.
        routers: measured routers, one stage per router and rate.
        ablations, pools: cases with one mechanism left out or a wrong KV pool.
        reuse: a block-exact trace replayed.
        steps: the compact form against tables. ``passes``: timing sources against real prefills;
            ``calibrated``: likewise on rows held out of a calibration.
        trends: published statements.
    """

    cells: list[CellResult] = field(default_factory=list)
    withheld: list[WithheldResult] = field(default_factory=list)
    cases: list[CaseResult] = field(default_factory=list)
    unmeasured: list[UnmeasuredResult] = field(default_factory=list)
    routers: list[RouterStage] = field(default_factory=list)
    ablations: list[AblationResult] = field(default_factory=list)
    pools: list[PoolError] = field(default_factory=list)
    reuse: list[ReuseResult] = field(default_factory=list)
    steps: list[StepErrors] = field(default_factory=list)
    passes: list[ForwardPasses] = field(default_factory=list)
    calibrated: list[ForwardPasses] = field(default_factory=list)
    trends: list[Trend] = field(default_factory=list)

    def by_case(self) -> dict[str, list[CaseResult]]:
        """Results by case, in order."""
        grouped: dict[str, list[CaseResult]] = {}
        for result in self.cases:
            grouped.setdefault(result.case.name, []).append(result)
        return grouped

    def as_dict(self) -> dict[str, Any]:
        """Plain values, one list per part."""
        return {
            "cells": [result.as_dict() for result in self.cells],
            "withheld_cells": [result.as_dict() for result in self.withheld],
            "cases": [result.as_dict() for result in self.cases],
            "unmeasured": [result.as_dict() for result in self.unmeasured],
            "routers": [stage.as_dict() for stage in self.routers],
            "ablations": [result.as_dict() for result in self.ablations],
            "pools": [result.as_dict() for result in self.pools],
            "reuse": [result.as_dict() for result in self.reuse],
            "steps": [result.as_dict() for result in self.steps],
            "forward_passes": [result.as_dict() for result in self.passes],
            "forward_passes_calibrated": [result.as_dict() for result in self.calibrated],
            "trends": [trend.as_dict() for trend in self.trends],
        }
