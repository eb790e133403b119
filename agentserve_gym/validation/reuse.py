"""Whether a block-exact trace replays to the prefix reuse that its blocks say."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from agentserve_gym.sim import (
    KEEP,
    Answer,
    Decision,
    Route,
    RouteDecision,
    Simulation,
    load_scenario,
    run,
)
from agentserve_gym.workloads import read_programs

TRACE = "coding-session-blocks"
"""The data set that has the id of every block."""

_EVERYTHING_FITS = 100_000_000
_AT_ONCE = 4


@dataclass(frozen=True, slots=True)
class ReuseResult:
    """Reuse of the prompts that follow a program's first one, as shares of their input tokens.

    Attributes:
        programs, follow_up_tokens: how many. ``true``: by the trace's block ids.
        simulated: found in HBM on a pool that holds everything.
        simulated_of_all: likewise, of all input tokens, first prompts included.
    """

    programs: int
    follow_up_tokens: int
    true: float
    simulated: float
    simulated_of_all: float

    def as_dict(self) -> dict[str, Any]:
        """Plain numbers."""
        return {
            "programs": self.programs,
            "follow_up_tokens": self.follow_up_tokens,
            "true": self.true,
            "simulated": self.simulated,
            "simulated_of_all": self.simulated_of_all,
        }


def replay_reuse(path: Path, programs: int) -> ReuseResult:
    """Replay the first ``programs`` programs of a trace with measured reuse, without sub-agents.

    Raises:
        ValueError: the trace cannot be read, or no program in it has a second turn.
    """
    turns = [
        turn for program in islice(read_programs(path), programs) for turn in program.turns[1:]
    ]
    tokens = sum(turn.input_tokens for turn in turns)
    if not tokens:
        raise ValueError(f"{path}: no program has a second turn; reuse needs one")
    whole = _replay(path, programs)
    first_prompts = _replay(path, programs, max_turns=1)
    hits = whole["hit_tokens"]["hbm"]
    return ReuseResult(
        whole["programs"],
        tokens,
        sum(turn.reuse_tokens for turn in turns) / tokens,
        (hits - first_prompts["hit_tokens"]["hbm"]) / tokens,
        hits / whole["prompt_tokens"],
    )


class _OneInstance:
    def decide(self, decision: Decision) -> Answer:
        return Route(0) if isinstance(decision, RouteDecision) else KEEP


def _replay(path: Path, programs: int, **workload: Any) -> dict[str, Any]:
    instance = {"accelerator": "b200", "kv_blocks": _EVERYTHING_FITS}
    scenario = load_scenario(
        {
            "name": path.name,
            "cluster": {
                "model": "llama-3.1-8b",
                "nodes": [{"name": "node0", "instances": [instance]}],
            },
            "workload": {
                "kind": "trace",
                "path": str(path),
                "programs": programs,
                "sub_agents": False,
                **workload,
            },
            "arrivals": {"kind": "closed_loop", "concurrency": _AT_ONCE},
        }
    )
    return run(Simulation(scenario), _OneInstance())
