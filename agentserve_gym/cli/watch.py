"""``agentserve watch``: a page that plays a run, under one policy or two side by side."""

from __future__ import annotations

import webbrowser
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from agentserve_gym import __version__
from agentserve_gym.baselines import NamedPolicy, ScoreKeeper
from agentserve_gym.cli.driving import count_answers, parse_policies
from agentserve_gym.cli.output import JsonOption, note, print_json
from agentserve_gym.cli.progress import reporting
from agentserve_gym.files import require_replaceable, write_file
from agentserve_gym.sim import Scenario, answers, load_scenario
from agentserve_gym.sim.recording import RecordedSimulation
from agentserve_gym.watch import PAGE_BEGINNING, PageServer, WatchedRun, contents, page

_MOST_POLICIES = 2
_MANY_BYTES = 20_000_000


def watch(
    scenario: Annotated[
        str, typer.Option(help="A preset, a cell of the benchmark, or a .toml or .json file.")
    ] = "default",
    policy: Annotated[
        list[str] | None,
        typer.Option(help="A policy such as lru or sglang+continuum; give two to see both."),
    ] = None,
    seed: Annotated[int, typer.Option(help="Of programs, arrivals and tools.")] = 0,
    until_s: Annotated[
        float | None, typer.Option("--until", help="Simulate only so many seconds.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="Write the page to this .html file, and serve nothing.")
    ] = None,
    port: Annotated[int, typer.Option(help="Serve the page here; 0 is any free port.")] = 0,
    open_browser: Annotated[
        bool, typer.Option("--open/--no-open", help="Open the page in a browser.")
    ] = True,
    json: JsonOption = False,
) -> None:
    """Play a run in the browser: instances, tiers, programs and decisions, two policies side by
    side."""
    names = policy or ["lru"]
    if len(names) > _MOST_POLICIES:
        raise ValueError(f"policy is given {len(names)} times; allowed: one policy or two")
    if out is not None:
        _require_writable(out)
    loaded = _until(load_scenario(scenario), until_s)
    text = _page(loaded, names, seed)
    size = len(text.encode("utf-8"))
    if size > _MANY_BYTES:
        note(f"The page has {size / 1e6:.0f} MB and may be slow; --until makes it shorter.")
    document = {"scenario": loaded.name, "seed": seed, "policies": names, "bytes": size}
    if out is not None:
        write_file(out, text)
        if json:
            print_json(document | {"page": str(out)})
        else:
            typer.echo(f"page: {out} ({size / 1e6:.1f} MB)")
        return
    with PageServer(text, port) as server:
        if json:
            print_json(document | {"url": server.url})
        else:
            typer.echo(f"page: {server.url} ({size / 1e6:.1f} MB); Ctrl-C ends it")
        if open_browser:
            webbrowser.open(server.url)
        try:
            server.serve_forever()
        except KeyboardInterrupt:
            note("stopped")


def _require_writable(path: Path) -> None:
    """Find out before a long run whether its page can be written."""
    if path.suffix.lower() not in (".html", ".htm"):
        raise ValueError(f"out is {str(path)!r}; allowed: a file whose name ends in .html")
    if not path.absolute().parent.is_dir():
        raise ValueError(f"out is {str(path)!r}, but there is no folder {path.parent}")
    require_replaceable(path, PAGE_BEGINNING, "a page of a run")


def _until(scenario: Scenario, until_s: float | None) -> Scenario:
    """The scenario, cut at a time."""
    if until_s is None:
        return scenario
    if not until_s > 0.0:
        raise ValueError(f"until is {until_s:g}; allowed: more than 0 seconds")
    horizon_s = min(until_s, scenario.horizon_s) if scenario.horizon_s else until_s
    return scenario.model_copy(update={"horizon_s": horizon_s})


def _page(scenario: Scenario, names: Sequence[str], seed: int) -> str:
    """Run every policy and make their page."""
    policies = parse_policies(names)
    runs: list[WatchedRun] = []
    about = {
        "scenario": scenario.name,
        "description": scenario.description,
        "seed": seed,
        "version": __version__,
    }
    with reporting() as report:
        for name, policy in zip(names, policies, strict=True):
            simulation = RecordedSimulation(scenario, seed)
            keeper = _start(simulation, policy)
            count_answers(name, simulation, answers(simulation, keeper), report)
            runs.append(
                WatchedRun(
                    name, len(simulation.workload), simulation.history, keeper.routes,
                    keeper.placements,
                )
            )  # fmt: skip
        report("page: laying it out", 0, 1)
        return page(f"{scenario.name}, seed {seed}: {' and '.join(names)}", contents(runs, about))


def _start(simulation: RecordedSimulation, policy: NamedPolicy) -> ScoreKeeper:
    policy.reset()
    policy.bind(simulation)
    return ScoreKeeper(policy)
