"""Coding sessions with exact block ids, one conversation per line: kv-cache-tester's traces.

``{"id", "block_size", "tool_tokens", "system_tokens", "requests": [{"t", "type", "in", "out",
"input_types", "think_time", "hash_ids": [id, ..]}, ..]}``; ``hash_runs``, ``[[first id, how many],
..]``, may stand for ``hash_ids``. Ids are local to the conversation, so they give reuse within it:
the common start with the previous prompt, in whole blocks. Sharing between conversations comes from
the two prefix levels: equal ``tool_tokens`` mean equal tool definitions, an equal pair with
``system_tokens`` an equal system prompt.

A request of type ``subagent`` is a child with its own ``requests``; ``t`` is when it finished
(see the ``agentprog`` reader), so it started ``duration_ms`` before. It is attached to the last
turn that began before it started, at the offset in that turn's gap (0 where it began during the
call); the last turn has no gap, so there the one before. The wait before a request is its
``think_time`` (0 where a trace leaves it out); it is a person's where the request holds no tool
result.

Labels: ``unknown_gaps`` where a ``think_time`` is missing; ``fresh_start`` where the first prompt
is at most ``FRESH_START_TOKENS`` longer than the prefix, so that the conversation began there.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

from agentserve_gym.workloads.program import GapKind, PrefixSegment, Program
from agentserve_gym.workloads.readers.lines import Record, distinct_records, read_records
from agentserve_gym.workloads.readers.steps import Step, chain_turns

FRESH_START_TOKENS = 20_000


def read(path: Path) -> Iterator[Program]:
    """Programs of a block-run file, in file order."""
    return distinct_records((record, _program(record)) for record in read_records(path))


def _program(record: Record) -> Program:
    requests = record.filled_records("requests")
    block_tokens = record.integer("block_size", low=1)
    calls = [request for request in requests if request.values.get("type") != "subagent"]
    if not calls:
        raise record.error("requests", "at least one request that is not a subagent")
    name = record.text("id")
    steps = _steps(calls, block_tokens)
    agents = [request for request in requests if request.values.get("type") == "subagent"]
    turns = chain_turns(_attach(name, steps, calls, agents, block_tokens))
    prefix = _prefix(record, turns[0].input_tokens)
    return Program(
        program_id=name,
        agent_class="coding_interactive",
        turns=turns,
        prefix=prefix,
        source="block-runs",
        labels=_labels(calls, turns[0].input_tokens, sum(part.tokens for part in prefix)),
    )


def _labels(calls: list[Record], first_input_tokens: int, prefix_tokens: int) -> tuple[str, ...]:
    labels = []
    if first_input_tokens <= prefix_tokens + FRESH_START_TOKENS:
        labels.append("fresh_start")
    if not all(call.has("think_time") for call in calls[1:]):
        labels.append("unknown_gaps")
    return tuple(labels)


def _steps(calls: list[Record], block_tokens: int) -> list[Step]:
    paths = [_runs(call) for call in calls]
    steps: list[Step] = []
    for index, call in enumerate(calls):
        following = calls[index + 1] if index + 1 < len(calls) else None
        reuse = _common_blocks(paths[index - 1], paths[index]) * block_tokens if index else 0
        steps.append(
            Step(
                input_tokens=call.integer("in"),
                output_tokens=call.integer("out"),
                gap_s=0.0 if following is None else following.optional_number("think_time") or 0.0,
                gap_kind=_gap_kind(following),
                reuse_tokens=reuse,
            )
        )
    return steps


def _runs(call: Record) -> list[tuple[int, int]]:
    if not call.has("hash_runs"):
        return _as_runs(call.integers("hash_ids"))
    runs = call.values["hash_runs"]
    if not isinstance(runs, list):
        raise call.error("hash_runs", "a list of [first id, how many] pairs")
    pairs: list[tuple[int, int]] = []
    for run in runs:
        match run:
            case [int(first), int(count)] if count > 0:
                pairs.append((first, count))
            case _:
                raise call.error("hash_runs", "a list of [first id, how many] pairs")
    return pairs


def _as_runs(ids: list[int]) -> list[tuple[int, int]]:
    """Ids as (first id, how many) runs of consecutive ones."""
    starts = [0, *(i for i in range(1, len(ids)) if ids[i] != ids[i - 1] + 1), len(ids)]
    return [(ids[a], b - a) for a, b in pairwise(starts) if b > a]


def _common_blocks(before: list[tuple[int, int]], after: list[tuple[int, int]]) -> int:
    """Leading blocks that two paths share, run by run instead of block by block."""
    left, right = iter(before), iter(after)
    first, count = next(left, (0, 0))
    other, others = next(right, (0, 0))
    length = 0
    while count and others and first == other:
        step = min(count, others)
        length += step
        first, count = (first + step, count - step) if count > step else next(left, (0, 0))
        other, others = (other + step, others - step) if others > step else next(right, (0, 0))
    return length


def _gap_kind(following: Record | None) -> GapKind:
    if following is None:
        return "end"
    return "tool" if "tool_result" in following.values.get("input_types", ()) else "user"


def _prefix(record: Record, first_input_tokens: int) -> tuple[PrefixSegment, ...]:
    tools = record.integer("tool_tokens") if record.has("tool_tokens") else 0
    system = record.integer("system_tokens") if record.has("system_tokens") else 0
    tool_tokens = min(tools, first_input_tokens)
    levels = (
        (f"tools{tools}", tool_tokens),
        (f"tools{tools}|sys{system}", min(system, first_input_tokens - tool_tokens)),
    )
    return tuple(PrefixSegment(key, tokens) for key, tokens in levels if tokens > 0)


def _attach(
    name: str,
    steps: list[Step],
    calls: Sequence[Record],
    agents: Sequence[Record],
    block_tokens: int,
) -> list[Step]:
    attached = list(steps)
    if len(steps) < 2:
        return attached
    begins = [call.number("t") for call in calls]
    for number, agent in enumerate(agents):
        at_s = agent.number("t") - (agent.optional_number("duration_ms") or 0.0) / 1000
        before = sum(begin <= at_s for begin in begins) - 1
        place = min(max(0, before), len(steps) - 2)
        # The gap ends where the next call begins; what is left of it sets the offset.
        offset_s = at_s - (begins[place + 1] - steps[place].gap_s)
        child = _child(agent, f"{name}/{number}", block_tokens)
        child = replace(child, arrival_s=min(max(0.0, offset_s), steps[place].gap_s))
        step = attached[place]
        attached[place] = replace(step, children=(*step.children, child))
    return attached


def _child(agent: Record, name: str, block_tokens: int) -> Program:
    turns = chain_turns(_steps(agent.filled_records("requests"), block_tokens))
    return Program(
        program_id=name,
        agent_class="coding_interactive",
        turns=turns,
        prefix=_prefix(agent, turns[0].input_tokens),
        source="block-runs",
        labels=("sub_agent",),
    )
