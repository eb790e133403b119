"""The routing rule ``sglang`` beside SGLang's own router."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import cast

from agentserve_gym.baselines.routing.cache_aware import SGLangCacheAware
from agentserve_gym.report.markdown import table
from agentserve_gym.sim import RouteDecision
from benchmarks.peers.venv import set_up
from conformance import golden, theirs
from conformance.page import Section
from conformance.routers import Cluster, Decision, Load, RouterCase, Turn, View, drawn

SCRIPT = Path(__file__).parent / "run_sglang_router.py"
FOLDER = Path(__file__).parent / ".venv-sglang-router"
REQUIREMENT = "sglang-router==0.3.2"
_CASES = 8
SHARED_TOKENS = {"nothing shared": 0, "400 tokens shared by all": 400}
KEPT = (0, 1, 2)
"""Cases whose choices are kept for the tests."""
_SHORTER = 8
"""Tokens of a drawn request for one character of its text: the router compares texts."""
_FIRST_CHARACTER = 0x4E00
_CHARACTERS = 20_000


def drawn_case(seed: int, shared_tokens: int) -> tuple[RouterCase, SGLangCacheAware]:
    """Random conversations, and thresholds."""
    case = drawn(seed, shared_tokens)
    moves = [
        (what, name, tokens[::_SHORTER]) for what, name, tokens in case.moves if what != "prefilled"
    ]
    rng = random.Random(seed)
    rule = SGLangCacheAware(0.5, rng.choice((2, 4, 32)), rng.choice((1.0001, 1.5)))
    return RouterCase(case.workers, moves), rule


def _text(tokens: list[int]) -> str:
    """Different tokens near each other are different characters."""
    return "".join(chr(_FIRST_CHARACTER + token // _SHORTER % _CHARACTERS) for token in tokens)


def compare_case(
    case: RouterCase, rule: SGLangCacheAware, choices: Sequence[int], tally: Counter[str]
) -> None:
    """Ask our rule in every state in which the router chose."""
    sent: list[list[list[int]]] = [[] for _ in range(case.workers)]
    where: dict[int, int] = {}
    chosen = iter(choices)
    for what, name, tokens in case.moves:
        if what == "end":
            del where[name]
            continue
        loads = Counter(where.values())
        views = [
            View(index, loads[index], max(_common(tokens, each) for each in [[], *sent[index]]),
                 Load(0, 0))
            for index in range(case.workers)
        ]  # fmt: skip
        decision = Decision(Turn(len(tokens)), Cluster(views))
        mine = rule.choose(cast(RouteDecision, decision))
        instance = where[name] = next(chosen)
        tally["choices"] += 1
        tally[mine.event] += 1
        if mine.event == "matched":
            tally["the same"] += views[instance].cached == views[mine.instance].cached
        else:
            tally["the same"] += views[instance].sent_turns == views[mine.instance].sent_turns
        sent[instance].append(tokens)


def _common(first: Sequence[int], second: Sequence[int]) -> int:
    """Length of the common beginning."""
    for number, (one, other) in enumerate(zip(first, second, strict=False)):
        if one != other:
            return number
    return min(len(first), len(second))


_WHAT = """\
SGLang's router (`sglang-router`, in Rust), with its policy `cache_aware`, stands before servers
that hold requests until they are told to answer. Requests of conversations begin and end at random;
the router sees their text, and what it sent where. In each state the rule `sglang` is asked too,
with the same thresholds; the router's choice then holds for both. A choice counts as the same also
if it is an instance with the same match, where the match decides, or with as few requests, where
their number does.
"""

_FACTS = """\
The rule's defaults are a match of 0.5, a difference of 32 and a ratio of 1.0001. The router of this
version has 0.3, 64 and 1.5: `sglang(match=0.3,difference=64,ratio=1.5)`.
"""


def compare(only: str, *, install: bool) -> Section | None:
    """Run the comparison, if its name contains ``only``.

    Raises:
        ValueError: the router is absent, or failed.
    """
    if only not in "sglang-router":
        return None
    python = set_up(FOLDER, REQUIREMENT, [["--no-deps", REQUIREMENT]], install=install)
    rows = []
    total: Counter[str] = Counter()
    for name, shared in SHARED_TOKENS.items():
        tally: Counter[str] = Counter()
        cases = [drawn_case(seed, shared) for seed in range(_CASES)]
        asked = [
            {
                "workers": case.workers, "match": rule.match, "difference": rule.difference,
                "ratio": rule.ratio,
                "moves": [(what, number, _text(tokens)) for what, number, tokens in case.moves],
            }
            for case, rule in cases
        ]  # fmt: skip
        answered = zip(cases, theirs.ask(python, SCRIPT, asked), strict=True)
        for seed, ((case, rule), choices) in enumerate(answered):
            compare_case(case, rule, choices, tally)
            if not only and seed in KEPT:
                golden.write_choices(f"sglang {shared} {seed}", case, choices)
        keys = ("choices", "matched", "unmatched", "imbalanced", "the same")
        rows.append([name, *(f"{tally[key]:,}" for key in keys)])
        total += tally
    claim = (
        f"**The rule `sglang` makes {total['the same']:,} of {total['choices']:,} choices of "
        f"SGLang's router ({REQUIREMENT}).**\n"
    )
    heading = ("conversations", "choices", "matched", "unmatched", "imbalanced", "the same")
    text = f"## SGLang's router\n\n{_WHAT}\n{claim}\n{table(heading, rows)}\n{_FACTS}"
    return Section(claim, text, total["the same"] < total["choices"])
