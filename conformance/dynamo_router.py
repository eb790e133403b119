"""The routing rule ``dynamo`` beside NVIDIA Dynamo's own selection service."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, cast

from agentserve_gym.baselines.routing.cost import Dynamo
from agentserve_gym.report.markdown import table
from agentserve_gym.sim import RouteDecision
from benchmarks.peers.dynamo_replay import QUIET
from benchmarks.peers.venv import python_of
from conformance import golden, theirs
from conformance.page import Section
from conformance.routers import (
    BLOCK_TOKENS,
    Active,
    Cluster,
    Decision,
    Load,
    RouterCase,
    Turn,
    View,
    drawn,
)

SCRIPT = Path(__file__).parent / "run_dynamo.py"
_CASES = 20
SHARED_TOKENS = {"nothing shared": 0, "400 tokens shared by all": 400}
KEPT = (0, 1)
"""Cases whose choices are kept for the tests."""
_COLUMNS = ("choices", "as it is", "told of all", "formula")


def compare_case(case: RouterCase, choices: Sequence[dict[str, Any]], tally: Counter[str]) -> None:
    """Ask our rule in every state in which Dynamo's service chose."""
    rule = Dynamo()
    live: dict[int, Active] = {}
    chosen = iter(choices)
    for what, name, tokens in case.moves:
        if what == "end":
            del live[name]
        elif what == "prefilled":
            live[name].prefilled = True
        else:
            choice = next(chosen)
            decision = _decision(case.workers, tokens, choice, live)
            where = int(choice["chosen"])
            costs = [
                _dynamo_cost(view, tokens, [r for r in live.values() if r.instance == view.index])
                for view in decision.cluster.instances
            ]
            mine = rule.choose(cast(RouteDecision, decision)).instance
            _tell_of_all(decision, live)
            told = rule.choose(cast(RouteDecision, decision)).instance
            tally["choices"] += 1
            tally["as it is"] += costs[mine] == costs[where]
            tally["told of all"] += costs[told] == costs[where]
            tally["formula"] += costs[where] == min(costs)
            live[name] = Active(-1, tokens, where)


def _decision(
    workers: int, tokens: list[int], choice: dict[str, Any], live: dict[int, Active]
) -> Decision:
    views = []
    for index in range(workers):
        there = [request for request in live.values() if request.instance == index]
        prefill, _, _ = choice["loads"].get(str(index), (0, 0, 0))
        context = sum(len(request.tokens) for request in there if request.prefilled)
        cached = choice["cached_blocks"][str(index)] * BLOCK_TOKENS
        views.append(View(index, len(there), cached, Load(prefill, context)))
    return Decision(Turn(len(tokens)), Cluster(views))


def _tell_of_all(decision: Decision, live: dict[int, Active]) -> None:
    """Let instances report all their turns as if they decoded."""
    for view in decision.cluster.instances:
        there = [request for request in live.values() if request.instance == view.index]
        context = sum(len(request.tokens) for request in there)
        view.state = view.state._replace(context_tokens=context)


def _dynamo_cost(view: View, tokens: list[int], there: Sequence[Active]) -> float:
    """Dynamo's cost of an instance, in blocks: what there is to prefill with this prompt, and the
    distinct full blocks of all that is active with it."""
    prefill = view.state.prefill_backlog_tokens + len(tokens) - view.cached
    active = {block for request in there for block in _full_blocks(request.tokens)}
    return prefill / BLOCK_TOKENS + len(active.union(_full_blocks(tokens)))


def _full_blocks(tokens: list[int]) -> Iterator[tuple[int, int]]:
    """Names of a prompt's full blocks: a token is nowhere but in one conversation, or in all."""
    for end in range(BLOCK_TOKENS, len(tokens) + 1, BLOCK_TOKENS):
        yield end, tokens[end - 1]


_WHAT = """\
NVIDIA Dynamo's own selection service (`ai-dynamo-runtime`, in Rust, without a cluster) chooses
instances for requests of conversations, which begin, end their prefill and end at random. Its index
of caches is the one that it keeps of its own choices. In each state the rule `dynamo` is asked too;
Dynamo's choice then holds for both. A choice counts if it is Dynamo's, or costs the same by its
formula.
"""

_CAUSES = """\
The formula, in blocks: (tokens left to prefill there + prompt - cached) / block size + distinct
full blocks of all that is active there, this prompt's included. It is Dynamo's with its defaults.
The rule `dynamo` differs from it in this:

- Dynamo counts the blocks of a request from the choice on, while it waits and prefills too. The
  rule counts contexts that decode, which is what engines report; the third column shows what that
  does in these states, in which half of all turns still prefill.
- Blocks that active requests share count once in Dynamo, and once for each request here.
- Prefill counts in tokens in Dynamo, in whole blocks here.
"""


def compare(only: str, *, install: bool) -> Section | None:
    """Run the comparison, if its name contains ``only``.

    Raises:
        ValueError: Dynamo is absent, or failed.
    """
    if only not in "dynamo":
        return None
    python = python_of(QUIET, install=install)
    rows = []
    total: Counter[str] = Counter()
    for name, shared in SHARED_TOKENS.items():
        tally: Counter[str] = Counter()
        cases = [drawn(seed, shared) for seed in range(_CASES)]
        asked = [case._asdict() for case in cases]
        answered = zip(cases, theirs.ask(python, SCRIPT, asked), strict=True)
        for seed, (case, choices) in enumerate(answered):
            compare_case(case, choices, tally)
            if not only and seed in KEPT:
                golden.keep(f"router dynamo {shared} {seed}", case, choices)
        rows.append([name, *(f"{tally[key]:,}" for key in _COLUMNS)])
        total += tally
    claim = (
        f"**Of {total['choices']:,} choices of Dynamo's router ({QUIET.requirement}), "
        f"{total['formula']:,} follow the formula below; the rule `dynamo` makes "
        f"{total['as it is']:,} of them, and {total['told of all']:,} if it is told of turns that "
        "do not decode yet.**\n"
    )
    heading = ("conversations", "choices", "the rule", "told of all turns", "by the formula")
    text = f"## NVIDIA Dynamo's router\n\n{_WHAT}\n{claim}\n{table(heading, rows)}\n{_CAUSES}"
    return Section(claim, text, total["formula"] < total["choices"])
