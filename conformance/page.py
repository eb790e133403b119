"""docs/conformance.md, from what was compared."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from agentserve_gym.report import page as shell
from agentserve_gym.report.markdown import plural, table

COMMAND = "make conformance"

_WHAT = """## vLLM's scheduler

vLLM's own scheduler and KV-cache manager run on a CPU, without a model, beside this
simulator's engine. Both get the same programs, limits, pool and clock: our engine runs first, and
vLLM's steps start and end when ours of the same number did. Compared is every step: which turns it
computes, how many tokens each has computed before (its prefix hit, where it is admitted) and
computes now, how many KV blocks are free and how many turns were preempted; then the first and the
last token of every turn, to a microsecond.
"""

_RULES = """### Rules that this comparison taught

- A shared prefix can be hit from the scheduling pass on that computes it, not from the end of the
  step: a turn admitted in the same pass already finds it.
- With asynchronous scheduling, a turn whose last token is on its way is still in the running list.
  It can be preempted: it loses its blocks early and ends all the same.
- With asynchronous scheduling, a turn is preempted before its newest token is known, so a block
  that this token would complete has no hash and is not found again.
- Where a context shrinks (compaction), what was dropped stays cached, found by nobody, until its
  turn to be evicted comes, just before the part that was kept.
- Turns that end in one step free their blocks in the order in which they were admitted, which is
  not that of arrival where priorities or preemptions play a part.
- With the policy `priority`, the victim is the turn that the queue would serve last, and it goes
  back to its place in the queue (`engine.preemption_victim = "lowest_priority"`).
"""

_LIMITS = """## What this does not show

- How long steps take: prices are given to both sides. [validation.md](validation.md) has measured
  runs.
- The model runner, CUDA graphs, sampling, the API server and its tokenizer.
- What vLLM's scheduler does not have: pins, retention by policy, lower tiers as they are modelled
  here, migration, holds at the router.
- SGLang's scheduler: of SGLang, only caches and queue orders are compared.
- What this engine does not have: speculative decoding, LoRA, encoders, pipeline parallelism,
  external KV connectors. Blocks of sliding windows and states of linear attention are counted, not
  kept one by one: `python -m conformance.windows` compares their hits ([hardware.md](hardware.md)).
- Ties: of turns that become ready at the same instant, either may come first.

The steps that vLLM took in the small cases are kept in `tests/conformance/traces` as numbers, and
every run of the tests compares the engine with them.
"""


class Section(NamedTuple):
    """What the page says of one more part.

    Attributes:
        claim: in one sentence. ``text``: all of it, the claim included, below a heading.
        failed: whether something differs that must not.
    """

    claim: str
    text: str
    failed: bool


class Compared(NamedTuple):
    """One case: what vLLM did in it, and where ours first differs, if it does."""

    name: str
    steps: int
    turns: int
    preemptions: int
    difference: str


Groups = Mapping[str, Sequence[Compared]]
"""Cases by what they have in common."""


def render(
    groups: Groups, version: str, missing: Sequence[str], sections: Sequence[Section]
) -> str:
    """The page; ``missing``: why which cases or parts were left out."""
    return shell.joined(
        [
            shell.opening("Conformance with real serving code", COMMAND, shell.current_commit()),
            _WHAT,
            claim(groups, version),
            table(_HEADING, [_summary(name, cases) for name, cases in groups.items()]),
            _exceptions(groups),
            "".join(f"- Not compared: {why}\n" for why in missing),
            _RULES,
            *(section.text for section in sections),
            _LIMITS,
            _details(groups),
        ]
    )


def claim(groups: Groups, version: str) -> str:
    """What was found, in one sentence."""
    cases = [case for group in groups.values() for case in group]
    equal = sum(not case.difference for case in cases)
    steps = sum(case.steps for case in cases)
    preemptions = sum(case.preemptions for case in cases)
    return (
        f"**Equal to vLLM {version} step for step in {equal:,} of {plural(len(cases), 'case')}** "
        f"({plural(steps, 'step')}, {plural(preemptions, 'preemption')}).\n"
    )


_HEADING = ("cases", "equal", "of", "steps", "turns", "preemptions")


def _summary(name: str, cases: Sequence[Compared]) -> list[str]:
    sums = (
        sum(not case.difference for case in cases),
        len(cases),
        sum(case.steps for case in cases),
        sum(case.turns for case in cases),
        sum(case.preemptions for case in cases),
    )
    return [name, *(f"{number:,}" for number in sums)]


def _exceptions(groups: Groups) -> str:
    lines = [
        f"- {case.name}: {case.difference}\n"
        for cases in groups.values()
        for case in cases
        if case.difference
    ]
    if not lines:
        return ""
    return f"Exceptions, each with its first difference:\n\n{''.join(lines)}"


def _details(groups: Groups) -> str:
    rows = [
        [
            case.name, f"{case.steps:,}", f"{case.turns:,}", f"{case.preemptions:,}",
            "differs" if case.difference else "equal",
        ]
        for name, cases in groups.items()
        if name != "random"
        for case in cases
    ]  # fmt: skip
    heading = ("case", "steps", "turns", "preemptions", "")
    return "## Every case but the random ones\n\n" + table(heading, rows)
