"""``agentserve replay``: a request workload on one engine or one data-parallel group."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from agentserve_gym.cli.closed_loop_replay import (
    ClientsOption,
    HostGibOption,
    RequestsOption,
    ThinkSecondsOption,
    latency_table,
    print_closed_loop,
)
from agentserve_gym.cli.figures import Figures
from agentserve_gym.cli.output import JsonOption, console, print_json
from agentserve_gym.cli.router_replay import (
    GroupsOption,
    InstancesOption,
    OutputTokensOption,
    PrefixTokensOption,
    PromptsOption,
    QuestionTokensOption,
    RatesOption,
    RouterOption,
    SeedOption,
    StageSecondsOption,
    WarmUpRateOption,
    WarmUpSecondsOption,
    print_router_replay,
    read_stages,
)
from agentserve_gym.validation.closed_loop import ClosedLoop
from agentserve_gym.validation.replay import Replay, ReplaySettings
from agentserve_gym.validation.replay import replay as replay_workload
from agentserve_gym.workloads import rereadable
from agentserve_gym.workloads.shared_prefixes import LoadStage, SharedPrefixLoad

_LIMITS = (128, 2048)
_SERVER_LIMITS = (1024, 8192)
"""Of a step: sequences and tokens. The latter are those of vLLM's server on a large GPU."""


def replay(
    accelerator: Annotated[str, typer.Option(help="Name in the catalogue.")],
    model: Annotated[str, typer.Option(help="Name in the catalogue.")],
    workload: Annotated[
        Path | None,
        typer.Argument(
            help="Requests, or with --clients conversations: see agentserve trace; - is standard "
            "input."
        ),
    ] = None,
    tp: Annotated[int, typer.Option(help="Tensor parallelism.")] = 1,
    dp: Annotated[int, typer.Option(help="Data-parallel engines.")] = 1,
    ep: Annotated[int, typer.Option(help="Expert parallelism: 1 or tp x dp.")] = 1,
    max_num_seqs: Annotated[
        int | None,
        typer.Option(
            min=1, help="Sequences in a batch, per engine; default 128, behind a router 1024."
        ),
    ] = None,
    max_num_batched_tokens: Annotated[
        int | None,
        typer.Option(min=1, help="Tokens in a step; default 2048, behind a router 8192."),
    ] = None,
    kv_blocks: Annotated[
        int | None, typer.Option(help="KV pool per engine, blocks of 16 tokens; default derived.")
    ] = None,
    kv_dtype: Annotated[
        str | None, typer.Option(help="Precision of the KV, bf16 or fp8; default the model's own.")
    ] = None,
    timing: Annotated[str, typer.Option(help="auto, profile, compact or roofline.")] = "auto",
    profile: Annotated[Path | None, typer.Option(help="Folder of profile tables.")] = None,
    software: Annotated[
        str,
        typer.Option(
            help="Serving software whose host time steps get: a name in the catalogue, auto (the "
            "coefficients' own) or none."
        ),
    ] = "auto",
    clients: ClientsOption = None,
    requests: RequestsOption = None,
    think_s: ThinkSecondsOption = 0.0,
    host_gb: HostGibOption = None,
    router: RouterOption = None,
    rates: RatesOption = None,
    stage_s: StageSecondsOption = "60",
    instances: InstancesOption = 4,
    groups: GroupsOption = 83,
    prompts_per_group: PromptsOption = 3,
    prefix_tokens: PrefixTokensOption = 8000,
    question_tokens: QuestionTokensOption = 1000,
    output_tokens: OutputTokensOption = 1000,
    warm_up_rate: WarmUpRateOption = 9.0,
    warm_up_s: WarmUpSecondsOption = 30.0,
    seed: SeedOption = 0,
    json: JsonOption = False,
) -> None:
    """Replay a request workload and print TTFT, TPOT and E2E, as engine benchmarks do; with
    --clients, conversations in a closed loop; with --router, shared-prefix load on several
    engines."""
    if (workload is None) == (router is None):
        raise ValueError("replay needs a workload file or --router, one of the two")
    if clients is None:
        given = {"--requests": requests, "--host-gb": host_gb, "--think-s": think_s or None}
        for name, value in given.items():
            if value is not None:
                raise ValueError(f"{name} is {value}, but --clients is not given")
    elif workload is None or dp > 1:
        raise ValueError("--clients needs a workload file, and one engine (--dp 1)")
    sequences, tokens = _LIMITS if router is None else _SERVER_LIMITS
    settings = ReplaySettings(
        workload or Path(), accelerator, model, tp, dp, ep, max_num_seqs or sequences,
        max_num_batched_tokens or tokens, kv_blocks, timing, profile, kv_dtype, software,
    )  # fmt: skip
    if workload is None:
        assert router is not None
        load = SharedPrefixLoad(
            groups, prompts_per_group, prefix_tokens, question_tokens, output_tokens
        )
        warm_up = LoadStage(warm_up_rate, warm_up_s) if warm_up_s else None
        stages = read_stages(rates, stage_s)
        print_router_replay(settings, router, instances, load, stages, warm_up, seed, json=json)
        return
    if clients is not None:
        if host_gb is not None and host_gb <= 0:
            raise ValueError(f"--host-gb is {host_gb}; allowed: more than 0")
        with rereadable(workload) as source:
            loop = ClosedLoop(
                replace(settings, workload=source), clients, requests, think_s, host_gb
            )
            print_closed_loop(loop, workload.name, json=json)
        return
    replayed = replay_workload(settings)
    if json:
        print_json(replayed.as_dict())
    else:
        _table(replayed, workload.name).print(console())


def _table(replayed: Replay, title: str) -> Figures:
    figures = replayed.as_dict()
    table = latency_table(figures, title)
    table.remarks.append(
        f"makespan {figures['makespan_s']:.2f} s, {figures['output_tokens_per_s']:,.0f} output "
        f"tokens/s, {figures['preemptions']} preemptions, "
        f"{figures['prefix_hit_tokens']:,} prefix-hit tokens"
    )
    return table
