"""Running simulations turn by turn, so that parts of a run can be measured."""

from __future__ import annotations

import time

from agentserve_gym.baselines import drive, parse_policy
from agentserve_gym.sim import Route, Scenario, Simulation
from benchmarks.control import Control
from benchmarks.measure import Sample

_SLICE_TURNS = 500


class Drive:
    """A simulation under a policy that can be run on by a number of turns."""

    def __init__(self, scenario: Scenario, policy: str, seed: int = 0) -> None:
        self.simulation = Simulation(scenario, seed)
        self._answers = drive(self.simulation, parse_policy(policy))
        self.turns = 0

    def run(self, turns: int) -> int:
        """Run until so many more turns were routed, or to the end; returns how many were."""
        routed = 0
        for answer in self._answers:
            if type(answer) is Route:
                routed += 1
                if routed == turns:
                    break
        self.turns += routed
        return routed

    def measure(self, turns: int, control: Control) -> Sample:
        """Run on and time it, with a control between slices; its time is not counted.

        Raises:
            ValueError: if the run ended before.
        """
        seconds = event_s = 0.0
        slices = 0
        done = 0
        while done < turns:
            event_s += control.bare()
            slices += 1
            started = time.perf_counter()
            routed = self.run(min(_SLICE_TURNS, turns - done))
            seconds += time.perf_counter() - started
            if not routed:
                raise ValueError(f"turns is {turns}; the run ended after {done} more")
            done += routed
        return Sample(seconds, done, event_s / slices)
