"""Routing rules beside SGLang's router and its fork, vLLM's: ``sglang`` and ``affinity``."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, cast

from agentserve_gym.baselines.routing.cache_aware import SGLangCacheAware
from agentserve_gym.baselines.routing.sticky import SessionAffinity
from agentserve_gym.report.markdown import table
from agentserve_gym.sim import RouteDecision
from benchmarks.peers.venv import set_up
from conformance import golden, theirs
from conformance.page import Section
from conformance.routers import (
    Cluster,
    Decision,
    Load,
    Program,
    RouterCase,
    Turn,
    View,
    drawn,
)

SCRIPT = Path(__file__).parent / "run_rust_router.py"


class Router(NamedTuple):
    """A package with a router.

    Attributes:
        owner: whose. ``requirement``: what is installed; ``extension``: its compiled module.
        sees: what it compares of requests, in words.
        affine: its policies that keep a session where it is.
    """

    owner: str
    requirement: str
    extension: str
    sees: str
    affine: tuple[str, ...] = ()

    @property
    def package(self) -> str:
        return self.requirement.partition("=")[0]

    def python(self, *, install: bool) -> Path:
        """The Python that has it.

        Raises:
            ValueError: if it is absent and may not be installed, or cannot be; in one line.
        """
        folder = Path(__file__).parent / f".venv-{self.package}"
        installs = [["--no-deps", self.requirement]]
        return set_up(folder, self.requirement, installs, install=install)


SGLANG = Router(
    "SGLang", "sglang-router==0.3.2", "sglang_router.sglang_router_rs", "It compares their texts."
)
VLLM = Router(
    "vLLM",
    "vllm-router==0.1.17",
    "vllm_router_rs",
    "It compares their tokens,\nwhich it has an instance render (`/v1/completions/render`); where "
    "none can, it goes by load alone.",
    ("StickyLeastLoaded", "ConsistentHash"),
)
CACHE_AWARE = "CacheAware"
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
    """Ask ``sglang`` in every state in which the router chose by its cache."""
    sent: list[list[list[int]]] = [[] for _ in range(case.workers)]
    for state in _states(case, choices):
        views = [
            View(index, load, max(_common(state.tokens, each) for each in [[], *sent[index]]),
                 Load(0, 0))
            for index, load in enumerate(state.loads)
        ]  # fmt: skip
        decision = Decision(Turn(len(state.tokens)), Cluster(views))
        mine = rule.choose(cast(RouteDecision, decision))
        tally["choices"] += 1
        tally[mine.event] += 1
        chosen = views[state.instance]
        if mine.event == "matched":
            tally["the same"] += chosen.cached == views[mine.instance].cached
        else:
            tally["the same"] += chosen.sent_turns == views[mine.instance].sent_turns
        sent[state.instance].append(state.tokens)


def compare_sessions(
    case: RouterCase, sessions: Mapping[int, str], choices: Sequence[int], tally: Counter[str]
) -> None:
    """Ask ``affinity`` in every state in which the router chose for a session."""
    rule = SessionAffinity()
    homes: dict[str, int] = {}
    for state in _states(case, choices):
        session = sessions[state.name]
        views = [View(index, load, 0, Load(0, 0)) for index, load in enumerate(state.loads)]
        program = Program(homes.get(session, -1))
        decision = Decision(Turn(len(state.tokens)), Cluster(views), program)
        mine = rule.choose(cast(RouteDecision, decision))
        tally[mine.event] += 1
        if mine.event == "new":
            assigned = [list(homes.values()).count(index) for index in range(case.workers)]
            tally["least loaded"] += state.loads[state.instance] == min(state.loads)
            tally["fewest sessions"] += assigned[state.instance] == min(assigned)
        else:
            tally["the same"] += state.instance == mine.instance
        homes[session] = state.instance


class _State(NamedTuple):
    """A request begins: requests at each instance then, and the instance that it was sent to."""

    name: int
    tokens: list[int]
    loads: list[int]
    instance: int


def _states(case: RouterCase, choices: Sequence[int]) -> Iterator[_State]:
    where: dict[int, int] = {}
    chosen = iter(choices)
    for what, name, tokens in case.moves:
        if what == "end":
            del where[name]
            continue
        loads = Counter(where.values())
        where[name] = next(chosen)
        yield _State(name, tokens, [loads[index] for index in range(case.workers)], where[name])


def _common(first: Sequence[int], second: Sequence[int]) -> int:
    """Length of the common beginning."""
    for number, (one, other) in enumerate(zip(first, second, strict=False)):
        if one != other:
            return number
    return min(len(first), len(second))


_WHAT = """\
{owner}'s router (`{package}`, in Rust), with its policy `cache_aware`, stands before servers that
hold requests of conversations, which begin and end at random. {sees}
In each state the rule `sglang` is asked too, with the same thresholds; the router's choice then
holds for both. A choice counts as the same also if it is an instance with the same match, where the
match decides, or with as few requests, where their number does.
"""

_FACTS = """\
The rule's defaults are those that were published with it: a match of 0.5, a difference of 32 and a
ratio of 1.0001. {requirement} has 0.3, 64 and 1.5: `sglang(match=0.3,difference=64,ratio=1.5)`.
"""

_SESSIONS = """\
Its policies for sessions, in the same states with the conversation as `X-Session-ID`, beside the
rule `affinity`, which keeps a program at home and sends a new one to the least loaded:
"""


_SESSIONS_DIFFER = """
Both keep every session where it began, as `affinity` does. A new one goes to the instance with the
fewest sessions so far (`StickyLeastLoaded`), ended ones included, or where its hash points
(`ConsistentHash`), whatever the load; no rule here does either.
"""


def compare(router: Router, only: str, *, install: bool) -> Section | None:
    """Run the comparison with a router, if its name contains ``only``.

    Raises:
        ValueError: the router is absent, or failed.
    """
    if only not in router.package:
        return None
    python = router.python(install=install)
    rows = []
    total: Counter[str] = Counter()
    for name, shared in SHARED_TOKENS.items():
        tally: Counter[str] = Counter()
        for seed, case, rule, choices in _asked(python, router, CACHE_AWARE, shared):
            compare_case(case, rule, choices, tally)
            if not only and seed in KEPT:
                golden.keep(f"router {router.owner.lower()} {shared} {seed}", case, choices)
        keys = ("choices", "matched", "unmatched", "imbalanced", "the same")
        rows.append([name, *(f"{tally[key]:,}" for key in keys)])
        total += tally
    claim = (
        f"**The rule `sglang` makes {total['the same']:,} of {total['choices']:,} choices of "
        f"{router.owner}'s router ({router.requirement}).**\n"
    )
    heading = ("conversations", "choices", "matched", "unmatched", "imbalanced", "the same")
    what = _WHAT.format(owner=router.owner, package=router.package, sees=router.sees)
    facts = _FACTS.format(requirement=router.requirement)
    text = f"## {router.owner}'s router\n\n{what}\n{claim}\n{table(heading, rows)}\n{facts}"
    if router.affine:
        text += f"\n{_SESSIONS}\n{_affine(python, router)}"
    return Section(claim, text, total["the same"] < total["choices"])


def _affine(python: Path, router: Router) -> str:
    rows = []
    for policy in router.affine:
        tally: Counter[str] = Counter()
        for shared in SHARED_TOKENS.values():
            for _, case, _, choices in _asked(python, router, policy, shared):
                compare_sessions(case, sessions_of(case, shared), choices, tally)
        keys = ("kept_home", "the same", "new", "least loaded", "fewest sessions")
        rows.append([policy, *(f"{tally[key]:,}" for key in keys)])
    heading = (
        "policy", "later turns", "at home", "new sessions", "to the least loaded",
        "to the fewest sessions",
    )  # fmt: skip
    return table(heading, rows) + _SESSIONS_DIFFER


def sessions_of(case: RouterCase, shared_tokens: int) -> dict[int, str]:
    """Which conversation each request is of, by the first token that it shares with no other."""
    first = shared_tokens // _SHORTER
    return {name: f"{tokens[first]}" for what, name, tokens in case.moves if what == "begin"}


def _asked(
    python: Path, router: Router, policy: str, shared: int
) -> Iterator[tuple[int, RouterCase, SGLangCacheAware, list[int]]]:
    """The router's choices in every drawn case, with the case's number."""
    cases = [drawn_case(seed, shared) for seed in range(_CASES)]
    asked: list[dict[str, Any]] = []
    for case, rule in cases:
        sessions = sessions_of(case, shared)
        moves = [
            (what, number, _text(tokens), sessions[number]) for what, number, tokens in case.moves
        ]
        asked.append(
            {
                "extension": router.extension, "policy": policy, "workers": case.workers,
                "match": rule.match, "difference": rule.difference, "ratio": rule.ratio,
                "moves": moves,
            }
        )  # fmt: skip
    answered = zip(cases, theirs.ask(python, SCRIPT, asked), strict=True)
    for seed, ((case, rule), choices) in enumerate(answered):
        yield seed, case, rule, choices
