"""``agentserve replay --clients``: conversations in a closed loop on one engine."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

import typer

from agentserve_gym.cli.figures import Figures
from agentserve_gym.cli.output import console, print_json
from agentserve_gym.cli.progress import reporting
from agentserve_gym.validation.closed_loop import ClosedLoop, ClosedLoopRun, replay_closed_loop

_PANEL = "With --clients: conversations in a closed loop"

ClientsOption = Annotated[
    int | None,
    typer.Option(
        help="Clients, each with one conversation of the file at a time.",
        min=1,
        rich_help_panel=_PANEL,
    ),
]
RequestsOption = Annotated[
    int | None,
    typer.Option(
        help="Requests after which no turn starts; default: the whole file.",
        min=1,
        rich_help_panel=_PANEL,
    ),
]
ThinkSecondsOption = Annotated[
    float,
    typer.Option(
        help="Seconds from an answer to the client's next request, on top of the file's.",
        min=0,
        rich_help_panel=_PANEL,
    ),
]
HostGibOption = Annotated[
    float | None,
    typer.Option(
        help="Host memory for vLLM's native KV offloading, in GiB as its own option.",
        rich_help_panel=_PANEL,
    ),
]


def print_closed_loop(settings: ClosedLoop, title: str, *, json: bool) -> None:
    """Run the clients, and print the figures or, as JSON, all with the states of every second."""
    with reporting() as report:
        run = replay_closed_loop(settings, report)
    if json:
        print_json(run.as_dict())
    else:
        _table(run, title).print(console())


def latency_table(figures: Mapping[str, Any], title: str) -> Figures:
    """TTFT, TPOT and E2E of a replay's ``as_dict``, without remarks."""
    statistics = ("mean", "p50", "p90", "p99")
    table = Figures(f"{title}: {figures['turns']} requests", ["", *statistics])
    for name, label in (("ttft_ms", "TTFT, ms"), ("tpot_ms", "TPOT, ms"), ("e2e_s", "E2E, s")):
        table.rows.append([label, *(f"{figures[name][key]:,.2f}" for key in statistics)])
    return table


def _table(run: ClosedLoopRun, title: str) -> Figures:
    figures = run.as_dict()
    table = latency_table(figures, title)
    usage = figures["kv_usage_pct"]
    table.remarks += [
        f"{figures['requests_per_s']:.3f} requests/s, {figures['output_tokens_per_s']:,.0f} output "
        f"tokens/s over {figures['makespan_s']:,.0f} s, {figures['preemptions']} preemptions, "
        f"{figures['prefix_hit_tokens']:,} prefix-hit tokens",
        f"KV use {usage['mean']:.1f} % on average, {usage['max']:.1f} % at most; host memory: "
        f"{figures['host_gb_out']:,.0f} GB written, {figures['host_gb_in']:,.0f} GB read",
    ]
    return table
