"""Reads what a page holds: its data with a reader of its own, and what its script makes of them."""

from __future__ import annotations

import base64
import json
import shutil
import subprocess
from collections.abc import Sequence
from functools import cache
from importlib import resources
from typing import Any

from agentserve_gym.baselines import ScoreKeeper, parse_policy
from agentserve_gym.sim import answers, load_scenario
from agentserve_gym.sim.recording import RecordedSimulation
from agentserve_gym.watch import WatchedRun, contents, page

NODE = shutil.which("node")

STATES = """
const [scripts, [told, times]] = JSON.parse(require("fs").readFileSync(0, "utf8"));
const names = "{ readContents, stateAt, decision }";
require("vm").runInThisContext(`${scripts}; globalThis.model = ${names};`);
const { runs } = model.readContents(told);
const plain = (now) => ({ ...now, program: now.program.index });
const shown = (run, time) => {
  const state = model.stateAt(run, time);
  return {
    ...state,
    live: state.live.map(plain),
    held: state.held.map(plain),
    instances: state.instances.map((each) => ({
      ...each,
      note: null,
      batch: each.batch.map(plain),
      queue: each.queue.map(plain),
      load: each.load.map(plain),
    })),
    pools: state.pools.map((now) => ({ ...now, pool: now.pool.name })),
    decision: state.decision < 0 ? null : { ...plain(model.decision(run, state.decision)),
      scores: Object.fromEntries(model.decision(run, state.decision).scores) },
  };
};
console.log(JSON.stringify(runs.map((run) => times.map((time) => shown(run, time)))));
"""


@cache
def watched(scenario: str, policy: str, seed: int = 0) -> tuple[WatchedRun, dict[str, Any]]:
    """A run, and its report."""
    simulation = RecordedSimulation(load_scenario(scenario), seed)
    chosen = parse_policy(policy)
    chosen.bind(simulation)
    keeper = ScoreKeeper(chosen)
    for _ in answers(simulation, keeper):
        pass
    programs = len(simulation.workload)
    run = WatchedRun(policy, programs, simulation.history, keeper.routes, keeper.placements)
    return run, simulation.report()


def told_of(*runs: WatchedRun) -> dict[str, Any]:
    """The contents of a page, as the browser reads them."""
    about = {"scenario": "s", "description": "d", "seed": 0, "version": "v"}
    return contents_of(page("a run", contents(runs, about)))


def contents_of(text: str) -> dict[str, Any]:
    """The data in a page."""
    _, _, rest = text.partition('<script type="application/json" id="contents">')
    document: dict[str, Any] = json.loads(rest.partition("</script>")[0])
    return document


def unpacked(text: str) -> list[int]:
    """A column of numbers."""
    values: list[int] = []
    value = shift = last = 0
    for byte in base64.b64decode(text, validate=True):
        value |= (byte & 127) << shift
        shift += 7
        if byte < 128:
            last += (value >> 1) ^ -(value & 1)
            values.append(last)
            value = shift = 0
    return values


def states(told: dict[str, Any], times: Sequence[float]) -> list[list[dict[str, Any]]]:
    """What the page's script says of each run at some instants; needs Node."""
    assert NODE is not None
    script = (resources.files("agentserve_gym.watch") / "page" / "model.js").read_text("utf-8")
    given = json.dumps([script, [told, list(times)]])
    done = subprocess.run(
        [NODE, "-e", STATES], input=given, capture_output=True, text=True, check=True, timeout=60
    )
    found: list[list[dict[str, Any]]] = json.loads(done.stdout)
    return found
