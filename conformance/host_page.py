"""The DRAM tier beside vLLM's offloading: runs the comparison and says what came out."""

from __future__ import annotations

from agentserve_gym.report.markdown import table
from conformance import golden, host_cases, host_tier
from conformance.environment import installed_version, vllm_python
from conformance.host_cases import Compared, Group
from conformance.page import Section

_WHAT = """\
`vllm.v1.kv_offload`'s CPU manager, which keeps blocks in host memory and decides what is stored,
found and evicted there, beside this simulator's lower tiers. Our simulation runs programs with
write-through and all loads allowed. What its tier was asked (what is looked for, loaded and
stored, and when each transfer begins and ends) vLLM's manager is asked too. Compared are, for each
turn, how many blocks are found, stored and evicted, and after each store how much is used and
exactly which blocks can be found.
"""

_CAUSES = """\
Where the tier is asked for whole chains, it is equal. The differences of the other rows that were
looked into have these causes:

- *Transfers that take time.* A copy under way when a context shrinks is given up as a whole here;
  vLLM keeps its first part.
- *Shared prefixes* and *behind HBM.* A turn whose prompt begins in HBM loads only the rest. vLLM
  then counts only the rest as used, so that the head of a chain can leave the host before its tail
  (with LRU too); here a load counts as a use of the whole chain. Two turns that store the same
  shared prefix at once both copy it here; vLLM copies it once.

What the connector around that manager does, and write-through here does not:

- It stores every full block in the step that computes it (prefill chunks, and each block that
  decoding fills), not at the end of a turn, and also those of a program's last turn. The copy
  starts with the next step. Nothing waits for it: HBM blocks come free when a turn ends, and a step
  waits only if it writes to a block that is still being copied.
- A block that is being stored or loaded for somebody else delays a turn that would hit it until the
  next step; here it is not found, or loaded again.
- If the prompt's last block can be loaded too, it is, and one token is computed again; here the
  last block is computed.
- A loading turn holds blocks for its hit alone, and the rest of its prompt is allocated when it is
  admitted; here it holds blocks for the whole prompt.
"""


def compare(only: str, *, install: bool) -> Section | None:
    """Run the cases whose names contain ``only``.

    Raises:
        ValueError: vLLM is absent, or failed.
    """
    python = vllm_python(install=install)
    version = installed_version(python)
    found: list[tuple[Group, str, list[Compared]]] = []
    for group in host_cases.GROUPS:
        for eviction in ("lru", "arc"):
            cases = [case for case in group.cases(eviction) if only in case.case.name]
            if not cases:
                continue
            histories = [host_tier.play(case) for case in cases]
            compared = []
            answered = host_cases.ask(python, cases, histories)
            for case, history, answers in zip(cases, histories, answered, strict=True):
                compared.append(host_cases.compare(case, history, answers))
                if not only and host_cases.is_kept(case):
                    golden.write_answers(case, answers, version)
            found.append((group, eviction, compared))
    if not found:
        return None
    claim = _claim(found, version)
    rows = [_row(*each) for each in found]
    heading = ("cases", "eviction", "equal", "of", "look-ups", "blocks stored", "blocks evicted")
    text = f"## vLLM's host tier\n\n{_WHAT}\n{claim}\n{table(heading, rows)}\n{_CAUSES}"
    failed = any(group.is_exact and each.difference for group, _, all_ in found for each in all_)
    return Section(claim, text, failed)


def _claim(found: list[tuple[Group, str, list[Compared]]], version: str) -> str:
    exact = [each for group, _, all_ in found if group.is_exact for each in all_]
    equal = sum(not each.difference for each in exact)
    stored = sum(each.stored for each in exact)
    evicted = sum(each.evicted for each in exact)
    return (
        f"**The tier alone is equal to the CPU manager of vLLM {version}, LRU and ARC, block for "
        f"block in {equal} of {len(exact)} cases** ({stored:,} blocks stored, {evicted:,} evicted)."
        "\n"
    )


def _row(group: Group, eviction: str, compared: list[Compared]) -> list[str]:
    return [
        group.what,
        eviction.upper(),
        str(sum(not each.difference for each in compared)),
        str(len(compared)),
        f"{sum(each.finds for each in compared):,}",
        f"{sum(each.stored for each in compared):,}",
        f"{sum(each.evicted for each in compared):,}",
    ]
