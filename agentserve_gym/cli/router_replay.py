"""``agentserve replay --router``: shared-prefix load on several engines behind a router."""

from __future__ import annotations

from typing import Annotated

import typer

from agentserve_gym.cli.figures import Figures
from agentserve_gym.cli.output import console, print_json
from agentserve_gym.messages import shown
from agentserve_gym.validation.replay import ReplaySettings
from agentserve_gym.validation.router_replay import (
    RouterReplaySettings,
    StageReplay,
    replay_router,
)
from agentserve_gym.workloads.shared_prefixes import LoadStage, SharedPrefixLoad

_PANEL = "With --router: shared-prefix load on several engines, stage by stage"

RouterOption = Annotated[
    str | None,
    typer.Option(
        help="load, default, precise (llm-d's scorers), random, or any policy: instead of a "
        "workload file.",
        rich_help_panel=_PANEL,
    ),
]
RatesOption = Annotated[
    str | None,
    typer.Option(help="Requests per second of each stage: 3,4,5.", rich_help_panel=_PANEL),
]
StageSecondsOption = Annotated[
    str,
    typer.Option(help="Seconds of each stage: one number, or 210,180,120.", rich_help_panel=_PANEL),
]
InstancesOption = Annotated[
    int, typer.Option(help="Engines behind the router.", rich_help_panel=_PANEL)
]
GroupsOption = Annotated[int, typer.Option(help="Shared prefixes.", rich_help_panel=_PANEL)]
PromptsOption = Annotated[int, typer.Option(help="Prompts with each.", rich_help_panel=_PANEL)]
PrefixTokensOption = Annotated[
    int, typer.Option(help="Tokens of a shared prefix.", rich_help_panel=_PANEL)
]
QuestionTokensOption = Annotated[
    int, typer.Option(help="Tokens of a prompt after it.", rich_help_panel=_PANEL)
]
OutputTokensOption = Annotated[
    int, typer.Option(help="Tokens of an answer.", rich_help_panel=_PANEL)
]
WarmUpRateOption = Annotated[
    float,
    typer.Option(help="Requests per second of a stage before the first.", rich_help_panel=_PANEL),
]
WarmUpSecondsOption = Annotated[
    float, typer.Option(help="Its seconds; 0 for no such stage.", rich_help_panel=_PANEL)
]
SeedOption = Annotated[
    int, typer.Option(help="Of prompts' order and arrivals.", rich_help_panel=_PANEL)
]


def read_stages(rates: str | None, stage_s: str) -> tuple[LoadStage, ...]:
    """Stages from lists such as ``3,4,5`` and ``210,180,120``.

    Raises:
        ValueError: a list is missing or unreadable, or they are not equally long.
    """
    if rates is None:
        raise ValueError("--router needs --rates: requests per second of each stage, as 3,4,5")
    per_s = _numbers("--rates", rates)
    seconds = _numbers("--stage-s", stage_s)
    if len(seconds) == 1:
        seconds *= len(per_s)
    if len(seconds) != len(per_s):
        raise ValueError(
            f"--stage-s has {len(seconds)} numbers and --rates {len(per_s)}; allowed: as many, or "
            "one"
        )
    return tuple(map(LoadStage, per_s, seconds))


def print_router_replay(
    engine: ReplaySettings,
    router: str,
    instances: int,
    load: SharedPrefixLoad,
    stages: tuple[LoadStage, ...],
    warm_up: LoadStage | None,
    seed: int,
    *,
    json: bool,
) -> None:
    """Serve the load and print a stage's figures per row, or all as JSON."""
    settings = RouterReplaySettings(engine, router, instances, load, stages, warm_up, seed)
    served = replay_router(settings)
    policy = settings.policy().name
    if json:
        print_json({"router": policy, "stages": [stage.as_dict() for stage in served]})
    else:
        _table(policy, instances, served).print(console())


def _table(policy: str, instances: int, served: list[StageReplay]) -> Figures:
    heading = [
        "requests/s", "s", "tokens/s", "TTFT, s", "p90", "TPOT, ms", "E2E, s", "hits", "preempted",
    ]  # fmt: skip
    table = Figures(f"{policy} before {instances} engines", heading)
    for stage in served:
        figures = stage.as_dict()
        table.rows.append(
            [
                f"{figures['rate_per_s']:g}",
                f"{figures['seconds']:g}",
                f"{figures['output_tokens_per_s']:,.0f}",
                f"{figures['ttft_ms']['mean'] / 1e3:.3f}",
                f"{figures['ttft_ms']['p90'] / 1e3:.3f}",
                f"{figures['tpot_ms']['mean']:.1f}",
                f"{figures['e2e_s']['mean']:.1f}",
                f"{figures['prefix_hit_rate']:.1%}",
                str(figures["preemptions"]),
            ]
        )
    table.remarks.append("means; tokens/s are output tokens over the time to the last one")
    return table


def _numbers(option: str, text: str) -> list[float]:
    try:
        return [float(number) for number in text.split(",")]
    except ValueError:
        raise ValueError(f"{option} is {shown(text)}; allowed: numbers as in 3,4,5") from None
