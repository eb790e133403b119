"""``agentprog/1``: real agent programs as JSON lines (coding, function calling, web research).

What the files leave open is settled so:

- **Reuse.** ``reuse_tokens`` is used literally where the file has it (from block hashes), cut to
  what an engine can reuse. Otherwise it is the previous input plus output, cut so that new input is
  never reused.
- **Gaps.** A null ``gap_s`` becomes the longest known tool duration of the turn, else 0, and the
  program gets the label ``unknown_gaps``. ``gap_kind`` is taken from the next turn's trigger where
  it is missing.
- **Tools.** A null duration becomes the turn's gap; a null result size 0. Turns without ``tools``
  have none.
- **Sub-agents.** A child starts ``t_s`` after its program, on the clock of the observed run
  (``llm_s`` + ``gap_s`` of the turns). It belongs to the turn whose gap holds that moment, at that
  offset; if the moment lies in a turn's LLM call, to that turn's gap at offset 0; beyond the last
  gap, to the last turn that has one. A child of a one-turn program has no gap to run in and is
  dropped.
- **Empty** prompts (only images) and outputs (aborted calls) of 0 tokens count as 1.

Labels: ``split:<name>``, ``fresh_start``, ``unknown_gaps``.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from agentserve_gym.workloads.program import GapKind, PrefixSegment, Program, ToolCall, Turn
from agentserve_gym.workloads.readers.lines import Record, read_records


def read(path: Path) -> Iterator[Program]:
    """Programs of an ``agentprog/1`` file, in file order."""
    for record in read_records(path):
        yield _program(record)


def _program(record: Record) -> Program:
    rows = record.records("turns")
    if not rows:
        raise record.error("turns", "at least 1 turn")
    turns = _turns(rows)
    program_id = record.text("program_id")
    children = record.optional_records("children")
    if children and len(turns) > 1:
        turns = _attach_children(program_id, rows, turns, children, record)
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


def _turns(rows: list[Record]) -> tuple[Turn, ...]:
    turns: list[Turn] = []
    chain = 0
    for index, row in enumerate(rows):
        following = rows[index + 1] if index + 1 < len(rows) else None
        turn = _turn(row, following, chain, is_first=index == 0)
        chain = turn.input_tokens + turn.output_tokens
        turns.append(turn)
    return tuple(turns)


def _turn(row: Record, following: Record | None, chain: int, *, is_first: bool) -> Turn:
    input_tokens = max(1, row.integer("input_tokens"))
    new = min(row.integer("new_input_tokens"), input_tokens)
    if is_first:
        reuse = 0
    elif row.has("reuse_tokens"):
        reuse = min(row.integer("reuse_tokens"), chain, input_tokens - 1)
    else:
        reuse = min(chain, input_tokens - max(1, new))
    gap_s = _gap(row)
    return Turn(
        input_tokens=input_tokens,
        new_input_tokens=min(new, input_tokens - reuse),
        output_tokens=max(1, row.integer("output_tokens")),
        reuse_tokens=reuse,
        gap_s=gap_s if following is not None else 0.0,
        gap_kind=_gap_kind(row, following),
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
    program_id: str,
    rows: list[Record],
    turns: tuple[Turn, ...],
    children: list[Record],
    record: Record,
) -> tuple[Turn, ...]:
    starts: list[float] = []  # of each gap, on the observed clock
    ends: list[float] = []
    clock_s = 0.0
    for row, turn in zip(rows, turns, strict=True):
        clock_s += row.optional_number("llm_s") or 0.0
        starts.append(clock_s)
        clock_s += turn.gap_s
        ends.append(clock_s)
    attached: dict[int, list[Program]] = {}
    for number, child in enumerate(children):
        at_s = child.number("t_s")
        turn_index = next(
            (i for i in range(len(turns) - 1) if at_s <= ends[i]),
            len(turns) - 2,
        )
        offset_s = min(max(0.0, at_s - starts[turn_index]), turns[turn_index].gap_s)
        name = f"{program_id}/{number}"
        attached.setdefault(turn_index, []).append(_child(child, name, offset_s, record))
    return tuple(_with_children(turn, attached.get(i, [])) for i, turn in enumerate(turns))


def _with_children(turn: Turn, children: list[Program]) -> Turn:
    if not children:
        return turn
    return Turn(
        turn.input_tokens,
        turn.new_input_tokens,
        turn.output_tokens,
        turn.reuse_tokens,
        turn.gap_s,
        turn.gap_kind,
        turn.tools,
        tuple(children),
    )


def _child(child: Record, name: str, offset_s: float, parent: Record) -> Program:
    turns = _turns(child.records("turns"))
    shared = 0
    if child.has("shared_prefix_tokens"):
        shared = min(child.integer("shared_prefix_tokens"), turns[0].input_tokens)
    kind = child.text("type") if child.has("type") else "sub_agent"
    prefix = (PrefixSegment(f"sub-agent/{kind}|{shared}", shared),) if shared else ()
    return Program(
        program_id=name,
        agent_class=parent.text("agent_class"),
        turns=turns,
        prefix=prefix,
        arrival_s=offset_s,
        source=parent.text("source") if parent.has("source") else "",
        labels=("sub_agent",),
    )
