"""tau2-bench results: one JSON object, whose ``simulations`` are conversations with an agent.

``{"info": {"environment_info": {"domain_name"}}, "simulations": [{"id", "messages": [..]}, ..]}``.
A message has ``role`` and ``timestamp`` (when it was complete); one that the agent's model wrote
has ``usage`` (``prompt_tokens``, ``completion_tokens``) and perhaps ``tool_calls``.

- Every message with ``role`` assistant is a turn, but a greeting without ``usage`` that opens the
  conversation. A simulation in which the agent never answered is left out.
- The gap after a turn ends with the last message before the next turn. It is a tool's where the
  turn calls tools, else a person's (a simulated user, who may call tools too).
- A tool took from its call until the message with its ``id``, so calls in one turn overlap.
- What a prompt adds to the previous one and its answer is new; that is shared among the turn's tool
  results by the lengths of their texts, as the file does not count their tokens.
- Prompts hold the domain's policy and tools first, whose size the file does not tell: nothing is
  shared between programs, and there are no arrival times.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime
from itertools import pairwise
from pathlib import Path

from agentserve_gym.workloads.program import Program, ToolCall
from agentserve_gym.workloads.readers.lines import Record, read_records
from agentserve_gym.workloads.readers.steps import Step, chain_turns


def read(path: Path) -> Iterator[Program]:
    """Programs of a results file, one per simulation, in file order."""
    for results in read_records(path):
        domain = results.record("info").record("environment_info").text("domain_name")
        for simulation in results.records("simulations"):
            steps = _steps(simulation.records("messages"), f"api:{domain}")
            if steps:
                yield Program(
                    program_id=simulation.text("id"),
                    agent_class="function_calling",
                    turns=chain_turns(steps),
                    source="tau2",
                )


def _steps(messages: list[Record], tool_kind: str) -> list[Step]:
    calls = [number for number, message in enumerate(messages) if _is_call(message, number)]
    counts = [_tokens(messages[call].record("usage")) for call in calls]
    added = [max(0, prompt - before - answer) for (before, answer), (prompt, _) in pairwise(counts)]
    steps: list[Step] = []
    for index, call in enumerate(calls):
        new = added[index - 1] if index else None
        step = Step(*counts[index], new_input_tokens=new)
        if index < len(added):
            between = messages[call + 1 : calls[index + 1]]
            step = _wait(step, messages[call], between, added[index], tool_kind)
        steps.append(step)
    return steps


def _is_call(message: Record, number: int) -> bool:
    greeting = number == 0 and not message.has("usage")
    return message.text("role") == "assistant" and not greeting


def _tokens(usage: Record) -> tuple[int, int]:
    return usage.integer("prompt_tokens"), usage.integer("completion_tokens")


def _wait(step: Step, call: Record, between: list[Record], added: int, tool_kind: str) -> Step:
    """The step with the gap after it; ``added`` are the tokens that the next prompt adds."""
    gap_s = _seconds(call, between[-1]) if between else 0.0
    results = {row.values.get("id"): row for row in between if row.text("role") == "tool"}
    own = [results.get(tool.text("id")) for tool in call.optional_records("tool_calls")]
    lengths = [len(result.values.get("content") or "") if result else 0 for result in own]
    tools = tuple(
        ToolCall(
            tool_kind,
            _seconds(call, result) if result else gap_s,
            round(added * length / max(1, sum(lengths))),
        )
        for result, length in zip(own, lengths, strict=True)
    )
    return replace(step, gap_s=gap_s, gap_kind="tool" if tools else "user", tools=tools)


def _seconds(earlier: Record, later: Record) -> float:
    return max(0.0, (_time(later) - _time(earlier)).total_seconds())


def _time(message: Record) -> datetime:
    try:
        return datetime.fromisoformat(message.text("timestamp")).replace(tzinfo=None)
    except ValueError as error:
        raise message.error("timestamp", "a time like 2025-10-31T07:35:13.675588") from error
