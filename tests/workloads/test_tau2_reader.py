"""Simulations of tau2-bench."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from reader_helpers import read

from agentserve_gym.workloads import ToolCall, Turn


def message(role: str, second: float, tokens: tuple[int, int] | None = None, **more: Any) -> Any:
    usage = None if tokens is None else dict(zip(TAU2_USAGE, tokens, strict=True))
    time = f"2025-10-31T07:35:{second:09.6f}"
    return {"role": role, "content": "x", "timestamp": time, "usage": usage} | more


TAU2_USAGE = ("prompt_tokens", "completion_tokens")


def tau2_results(*simulations: list[Any]) -> dict[str, Any]:
    rows = [
        {"id": f"sim-{number}", "task_id": "7", "messages": messages, "trial": 0}
        for number, messages in enumerate(simulations)
    ]
    info = {"environment_info": {"domain_name": "airline"}, "agent_info": {"llm": "m"}}
    return {"timestamp": "2025-10-31T08:00:00", "info": info, "tasks": [], "simulations": rows}


def test_tau2_simulations(tmp_path: Path) -> None:
    calls = [{"id": "a", "name": "find"}, {"id": "b", "name": "book"}, {"id": "lost"}]
    conversation = [
        message("assistant", 0.0),  # the greeting, which no model wrote
        message("user", 1.0, (9, 9)),
        message("assistant", 3.0, (500, 20)),
        message("user", 4.5, (9, 9), tool_calls=[{"id": "u", "name": "look"}]),
        message("tool", 4.75, id="u", requestor="user"),
        message("user", 5.0, (9, 9)),
        message("assistant", 7.0, (530, 40), tool_calls=calls),
        message("tool", 7.25, id="a", content="x" * 30),
        message("tool", 7.5, id="b", content="x" * 10),
        message("assistant", 9.0, (690, 8)),
        message("user", 9.5, (9, 9)),
        message("assistant", 11.0, (650, 8)),
        message("user", 12.0, (9, 9)),
    ]
    path = tmp_path / "airline.json"
    path.write_text(json.dumps(tau2_results(conversation, []), indent=2), encoding="utf-8")
    (program,) = read(path, "tau2")
    assert (program.program_id, program.agent_class) == ("sim-0", "function_calling")
    assert program.arrival_s is None
    tools = (
        ToolCall("api:airline", 0.25, 90),  # 120 new tokens, by the lengths of the texts
        ToolCall("api:airline", 0.5, 30),
        ToolCall("api:airline", 0.5, 0),  # never answered
    )
    assert program.turns == (
        Turn(500, 500, 20, 0, 2.0, "user"),
        Turn(530, 10, 40, 520, 0.5, "tool", tools),
        Turn(690, 120, 8, 570, 0.5, "user"),
        Turn(650, 0, 8, 649),  # thinking was dropped: shorter than what went before
    )
