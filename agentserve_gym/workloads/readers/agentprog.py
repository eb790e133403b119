"""``agentprog/1``: real agent programs as JSON lines (coding, function calling, web research).

What the files leave open is settled so:

- **Reuse.** ``reuse_tokens`` is used literally where the file has it (from block hashes); see
  `agentserve_gym.workloads.readers.steps`.
- **Gaps.** A null ``gap_s`` becomes the longest known tool duration of the turn, else 0, and the
  program gets the label ``unknown_gaps``. ``gap_kind`` is taken from the next turn's trigger where
  it is missing.
- **Tools.** A null duration becomes the turn's gap; a null result size 0. Turns without ``tools``
  have none; the last turn has no gap, so its tools are left out.
- **Sub-agents.** ``t_s`` of a child is when it *finished*: ``t_s - duration_s`` falls within
  seconds of the start of a tool gap (median .5 s after it over the 52 children of the coding
  traces), and ``t_s + duration_s`` far beyond that gap's end. So a child starts at
  ``t_s - duration_s`` on the clock of the observed run (``llm_s`` + ``gap_s`` of the turns). It
  belongs to the turn whose gap holds that moment, at that offset; if the moment lies in a turn's
  LLM call, to that turn's gap at offset 0; beyond the last gap, to the last turn that has one. A
  child of a one-turn program has no gap to run in and is
  dropped.
- **Empty** prompts (only images) and outputs (aborted calls) of 0 tokens count as 1.

Labels: ``split:<name>``, ``fresh_start``, ``unknown_gaps``.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from agentserve_gym.workloads.program import GapKind, PrefixSegment, Program, ToolCall
from agentserve_gym.workloads.readers.lines import Record, distinct_records, read_records
from agentserve_gym.workloads.readers.steps import Step, chain_turns


def read(path: Path) -> Iterator[Program]:
    """Programs of an ``agentprog/1`` file, in file order."""
    return distinct_records((record, _program(record)) for record in read_records(path))


def _program(record: Record) -> Program:
    rows = record.filled_records("turns")
    program_id = record.text("program_id")
    turns = chain_turns(_attach_children(program_id, rows, _steps(rows), record))
    labels: list[str] = []
    if record.has("split"):
        labels.append(f"split:{record.text('split')}")
    if record.values.get("fresh_start") is True:
        labels.append("fresh_start")
    if any(not row.has("gap_s") for row in rows[:-1]):
        labels.append("unknown_gaps")
    return Program(
        program_id=program_id,
        agent_class=record.text("agent_class"),
        turns=turns,
        prefix=_prefix(record, turns[0].input_tokens),
        arrival_s=record.optional_number("arrival_s"),
        source=record.text("source") if record.has("source") else "",
        labels=tuple(labels),
    )


def _prefix(record: Record, first_input_tokens: int) -> tuple[PrefixSegment, ...]:
    """One segment for the group, or two where its name tells tools and system apart.

    In coding traces ``prefix_group`` is ``tools<n>|sys<m>``: the tool definitions (n tokens) are
    shared by everyone with the same n, the system prompt (m tokens) by those with the same pair.
    """
    if not record.has("shared_prefix_tokens") or not record.has("prefix_group"):
        return ()
    shared = min(record.integer("shared_prefix_tokens"), first_input_tokens)
    if shared == 0:
        return ()
    group = record.text("prefix_group")
    tools, _, system = group.partition("|sys")
    size = tools.removeprefix("tools")
    if system.isdigit() and size.isdigit() and 0 < int(size) < shared:
        tool_tokens = int(size)
        return (PrefixSegment(tools, tool_tokens), PrefixSegment(group, shared - tool_tokens))
    return (PrefixSegment(group, shared),)


def _steps(rows: list[Record]) -> list[Step]:
    return [
        _step(row, rows[index + 1] if index + 1 < len(rows) else None)
        for index, row in enumerate(rows)
    ]


def _step(row: Record, following: Record | None) -> Step:
    gap_s = _gap(row)
    return Step(
        input_tokens=row.integer("input_tokens"),
        output_tokens=row.integer("output_tokens"),
        gap_s=gap_s,
        gap_kind=_gap_kind(row, following),
        reuse_tokens=row.integer("reuse_tokens") if row.has("reuse_tokens") else None,
        new_input_tokens=row.integer("new_input_tokens"),
        tools=tuple(_tool(tool, gap_s) for tool in row.optional_records("tools")),
    )


def _gap(row: Record) -> float:
    if row.has("gap_s"):
        return row.number("gap_s")
    durations = (tool.optional_number("duration_s") for tool in row.optional_records("tools"))
    return max((duration for duration in durations if duration is not None), default=0.0)


def _gap_kind(row: Record, following: Record | None) -> GapKind:
    if following is None:
        return "end"
    kind = row.values.get("gap_kind") or following.values.get("trigger")
    return "user" if kind == "user" else "tool"


def _tool(tool: Record, gap_s: float) -> ToolCall:
    duration_s = tool.optional_number("duration_s")
    return ToolCall(
        kind=tool.text("kind"),
        duration_s=gap_s if duration_s is None else duration_s,
        result_tokens=tool.integer("result_tokens") if tool.has("result_tokens") else 0,
    )


def _attach_children(
    program_id: str, rows: list[Record], steps: list[Step], record: Record
) -> list[Step]:
    children = record.optional_records("children")
    if not children or len(steps) < 2:
        return steps
    starts: list[float] = []  # of each gap, on the observed clock
    ends: list[float] = []
    clock_s = 0.0
    for row, step in zip(rows[:-1], steps[:-1], strict=True):
        clock_s += row.optional_number("llm_s") or 0.0
        starts.append(clock_s)
        clock_s += step.gap_s
        ends.append(clock_s)
    attached: dict[int, list[Program]] = {}
    for number, child in enumerate(children):
        at_s = child.number("t_s") - (child.optional_number("duration_s") or 0.0)
        place = next((i for i, end_s in enumerate(ends) if at_s <= end_s), len(ends) - 1)
        offset_s = min(max(0.0, at_s - starts[place]), steps[place].gap_s)
        name = f"{program_id}/{number}"
        attached.setdefault(place, []).append(_child(child, name, offset_s, record))
    return [replace(step, children=tuple(attached.get(i, ()))) for i, step in enumerate(steps)]


def _child(child: Record, name: str, offset_s: float, parent: Record) -> Program:
    turns = chain_turns(_steps(child.filled_records("turns")))
    shared = 0
    if child.has("shared_prefix_tokens"):
        shared = min(child.integer("shared_prefix_tokens"), turns[0].input_tokens)
    kind = child.text("type") if child.has("type") else "sub_agent"
    return Program(
        program_id=name,
        agent_class=parent.text("agent_class"),
        turns=turns,
        prefix=(PrefixSegment(f"sub-agent/{kind}|{shared}", shared),) if shared else (),
        arrival_s=offset_s,
        source=parent.text("source") if parent.has("source") else "",
        labels=("sub_agent",),
    )
