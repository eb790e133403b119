"""Our KV pool and queue orders beside SGLang's: runs the comparison and says what came out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from agentserve_gym.report.markdown import table
from agentserve_gym.sim.kernel.pools import BlockPool
from conformance import golden, queue_orders, radix_cases, theirs
from conformance.environment import SGLANG, sglang_python
from conformance.page import Section
from conformance.radix import Answer, WholeNodes, answers
from conformance.radix_cases import Group, RadixCase

SCRIPT = Path(__file__).parent / "run_sglang.py"
CACHES = ("RadixCache", "UnifiedRadixCache, python", "UnifiedRadixCache, rust")
PAGE_TOKENS = (1, 16)
KEPT = (0, 1)
"""Cases whose answers are kept for the tests."""
_CASES = 8

_WHAT = f"""\
SGLang's radix caches, `RadixCache` and `UnifiedRadixCache` with both of its cores ({SGLANG}),
beside this simulator's pool of KV blocks. Turns of random conversations begin (the prompt is looked
up, and pages are taken for the rest of it) and end (the output stays cached) in the same order on
both sides. Pages have one token, SGLang's default, or 16. Compared are the pages that each turn
finds, and how many are evicted for it; each row counts all three caches. They run on a CPU; what
SGLang imports for GPUs is stood in for by empty modules.
"""

_CAUSES = """\
What leaves at once differs, and it explains every look-up and every eviction that is not equal:

- SGLang evicts leaf *nodes* of its tree as a whole: a node is what one prompt or output added,
  split where texts part or a look-up ended. Here, as in vLLM, single blocks are cut from a chain's
  tail, as many as are needed. The order, least recently used first and tail before head, is the
  same.
- Where a look-up ends inside a node (the first time that a program with the same prefix comes, or
  where a context shrinks), all of that node counts as used in SGLang, also what was not found. Here
  only what is found does.

*With whole nodes* is a pool of this comparison that has these two rules and nothing else: all that
it finds and evicts is equal.

What SGLang does around its caches, and this engine does not:

- A prompt can be hit when the pass that computed it has ended; here, as in vLLM, in that pass.
- Turns that wait are looked up in every pass that orders the queue by prefixes (with `fcfs` in
  every 32nd), and what they find counts as used. Here it does when a turn is admitted.
"""

_QUEUES = """\
SGLang's queue policies (`sglang.srt.managers.schedule_policy`) put the waiting turns in order
before each pass. Our rules give each turn a number when it is sent. In the same states, *as sent*
counts the orders that are equal with those numbers, *asked again* with numbers of the state itself,
and *with both rules* if two rules are added that SGLang has besides:

- A turn of which at most 32 tokens are cached waits behind all others if it has 32 tokens or more
  in common with such a turn ahead of it, which will be cached.
- `lpm` is `fcfs` while more than 128 turns wait.
"""

_NO_RULE = """\
No rule here has the order of `dfs-weight` (subtrees of the cache, those with most waiting turns
first), which is of the queue as a whole; of `lof` (longest output first), which needs limits that
clients set; of `hrrn`, which needs the tokens that were prefilled meanwhile; of `routing-key` and
of `random`.
"""


def compare(only: str, *, install: bool) -> Section | None:
    """Run the comparison, if its name contains ``only``.

    Raises:
        ValueError: SGLang is absent, or failed.
    """
    if only not in "sglang-radix":
        return None
    asked = [
        *((case, cache) for case in _cases(radix_cases.GROUPS, PAGE_TOKENS) for cache in CACHES),
        *((case, CACHES[0]) for case in _cases(radix_cases.QUEUES, PAGE_TOKENS[:1])),
    ]
    found = theirs.ask(sglang_python(install=install), SCRIPT, [_plain(*each) for each in asked])
    answered = zip(asked, found, strict=True)
    claim, caches, failed = _caches(answered, keep=not only)
    order_claim, orders, orders_failed = _orders(answered, keep=not only)
    text = (
        f"## SGLang's radix cache\n\n{_WHAT}\n{claim}\n{caches}\n{_CAUSES}\n"
        f"## SGLang's queue policies\n\n{_QUEUES}\n{order_claim}\n{orders}\n{_NO_RULE}"
    )
    return Section(claim + order_claim, text, failed or orders_failed)


def _cases(
    groups: Sequence[Group], page_tokens: Sequence[int], seeds: Sequence[int] = range(_CASES)
) -> list[RadixCase]:
    return [
        group.case(tokens, seed) for group in groups for tokens in page_tokens for seed in seeds
    ]


def _plain(case: RadixCase, cache: str) -> dict[str, Any]:
    return case._asdict() | {"turns": [turn._asdict() for turn in case.turns], "cache": cache}


def kept_name(case: RadixCase) -> str:
    """Under which name its answers are kept."""
    return f"sglang {case.name}"


_Answered = Iterator[tuple[tuple[RadixCase, str], list[Any]]]


def _caches(answered: _Answered, *, keep: bool) -> tuple[str, str, bool]:
    """The claim, the table, and whether anything is unexplained."""
    rows = []
    total: Counter[str] = Counter()
    for group in radix_cases.GROUPS:
        for page_tokens in PAGE_TOKENS:
            tally: Counter[str] = Counter()
            for seed in range(_CASES):
                for _ in CACHES:
                    (case, cache), found = next(answered)
                    count(case, answers_of(found), tally)
                    if keep and seed in KEPT and cache == CACHES[0]:
                        golden.keep(kept_name(case), case, found)
            figures = (
                "look-ups", "hits", "found", "found, whole", "evicted", "evicted by ours",
            )  # fmt: skip
            rows.append([group.what, f"{page_tokens}", *(f"{tally[key]:,}" for key in figures)])
            total += tally
    heading = (
        "conversations", "page", "look-ups", "hits", "equal", "with whole nodes", "pages evicted",
        "ours",
    )  # fmt: skip
    claim = (
        f"**{total['found']:,} of {total['look-ups']:,} look-ups find the pages that {SGLANG} "
        f"finds; {total['found, whole']:,} do if whole nodes are evicted.**\n"
    )
    return claim, table(heading, rows), total["equal, whole"] < total["answers"]


def count(case: RadixCase, found: Sequence[Answer], tally: Counter[str]) -> None:
    """Add what is equal in a case, with our pool and with one that evicts whole nodes."""
    plain = answers(case, BlockPool("hbm", case.capacity_pages))
    whole = answers(case, WholeNodes("hbm", case.capacity_pages))
    for ours, nodes, theirs_ in zip(plain, whole, found, strict=True):
        tally["answers"] += 1
        tally["equal, whole"] += nodes == theirs_
        tally["evicted"] += theirs_.evicted
        tally["evicted by ours"] += ours.evicted
        if theirs_.found >= 0:
            tally["look-ups"] += 1
            tally["hits"] += theirs_.found > 0
            tally["found"] += ours.found == theirs_.found
            tally["found, whole"] += nodes.found == theirs_.found


def _orders(answered: _Answered, *, keep: bool) -> tuple[str, str, bool]:
    """The claim, the table, and whether anything is unexplained."""
    rows = []
    total: Counter[tuple[str, str]] = Counter()
    for group in radix_cases.QUEUES:
        tally: Counter[tuple[str, str]] = Counter()
        for seed in range(_CASES):
            (case, _), found = next(answered)
            queue_orders.compare_case(case, orders_of(found), tally)
            if keep and seed in KEPT:
                golden.keep(kept_name(case), case, orders_of(found))
        for policy, make in queue_orders.RULES.items():
            figures = (tally[policy, key] for key in ("orders", "sent", "now", "both"))
            rows.append([group.what, policy, make().name, *(f"{each:,}" for each in figures)])
        total += tally
    sums: Counter[str] = Counter()
    for (_, what), equal in total.items():
        sums[what] += equal
    claim = (
        f"**In {sums['now']:,} of {sums['orders']:,} states our rules put a queue in the order of "
        f"{SGLANG}; in {sums['both']:,} they do with its two further rules.**\n"
    )
    heading = (
        "queues", "policy", "rule", "orders", "as sent", "asked again", "with both rules",
    )  # fmt: skip
    return claim, table(heading, rows), sums["both"] < sums["orders"]


def answers_of(found: Sequence[Any]) -> list[Answer]:
    """What is kept of a cache's answers."""
    return [Answer(*each) for each in found if isinstance(each, list)]


def orders_of(found: Sequence[Any]) -> list[dict[str, list[int]]]:
    """What is kept of a queue's orders."""
    return [each for each in found if isinstance(each, dict)]


def kept_cases() -> list[RadixCase]:
    """Those in which what caches answer is kept for the tests."""
    return _cases(radix_cases.GROUPS, PAGE_TOKENS, KEPT)


def kept_queues() -> list[RadixCase]:
    """Those in which the orders of queues are kept for the tests."""
    return _cases(radix_cases.QUEUES, PAGE_TOKENS[:1], KEPT)


def kept(case: RadixCase) -> list[Any]:
    """What SGLang answered in a case."""
    return golden.kept(kept_name(case), case)
