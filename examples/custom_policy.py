"""A policy of your own, next to a baseline on the same programs.

Answer two questions: where does a turn run, and where does its KV wait during the tool gap? This
one sends a turn to the instance that holds most of its context unless another has far fewer turns,
and offloads to DRAM before tools that have been slow so far.

From the folder of this file it works on the command line too:

    agentserve run --scenario default --policy lru --policy custom_policy:Nearest
"""

from dataclasses import dataclass

from agentserve_gym.baselines import parse_policy
from agentserve_gym.sim import (
    KEEP,
    Answer,
    Decision,
    PlacementDecision,
    Route,
    RouteDecision,
    Simulation,
    load_scenario,
    offload,
    run,
)


@dataclass
class Nearest:
    """Prefers the instance that has the context; offloads before slow tools."""

    most_extra_turns: int = 8
    slow_s: float = 5.0

    def decide(self, decision: Decision) -> Answer:
        if isinstance(decision, RouteDecision):
            return Route(self._instance(decision))
        return self._placement(decision)

    def _instance(self, decision: RouteDecision) -> int:
        turns = {view.index: view.load().turns for view in decision.instances}
        idlest = min(turns, key=turns.__getitem__)
        home = decision.program.home
        if home >= 0 and turns[home] - turns[idlest] <= self.most_extra_turns:
            return home
        return idlest

    def _placement(self, decision: PlacementDecision) -> Answer:
        known = [decision.cluster.tools.kind(kind) for kind in decision.tool_kinds]
        expected_s = max((tool.mean_s for tool in known if tool is not None), default=0.0)
        return offload("dram") if expected_s > self.slow_s else KEEP


def main() -> None:
    scenario = load_scenario("default")
    for name, policy in (("lru", parse_policy("lru")), ("nearest", Nearest())):
        report = run(Simulation(scenario, seed=0), policy)
        print(f"{name}: mean JCT {report['jct_s']['mean']:.1f} s, hit rate {report['hit_rate']}")


if __name__ == "__main__":
    main()
