"""Peers and ours on one trace file, in turns."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

from agentserve_gym.compiled import VARIABLE
from agentserve_gym.sim import Simulation
from agentserve_gym.workloads import write_mooncake
from benchmarks.files import PeerRun, PeersFile
from benchmarks.machine import Machine, kernels
from benchmarks.measure import Report, spread
from benchmarks.peers.base import Measured, Peer, Setting, run_script
from benchmarks.peers.registry import PEERS
from benchmarks.peers.venv import python_of
from benchmarks.workloads import PEER_INSTANCES, peer_programs, trace_scenario

OUR_POLICIES = ("dynamo", "lmetric")
"""The first routes by the peer's own rule."""

_OURS = (
    "this package, {policy} routing, vLLM V1 scheduling, iteration times fitted to profiles of "
    "Llama-3.1-8B on H100, residency of every program's KV, open to any policy; {kernel} kernel."
)


@dataclass(frozen=True, slots=True)
class _Runner:
    """A simulator that is ready to run."""

    name: str
    version: str
    what: str
    run: Callable[[], Measured]


def write_trace(path: Path, programs: int) -> Setting:
    """Write the peer workload as a trace; returns what peers must be told to simulate the same."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_mooncake(peer_programs(programs), path)
    scenario = trace_scenario(str(path))
    engine = Simulation(scenario).engines[0]
    return Setting(
        trace=path.resolve(),
        instances=PEER_INSTANCES,
        block_tokens=scenario.engine.block_size_tokens,
        kv_blocks=engine.pool.capacity,
        max_num_seqs=engine.limits.max_num_seqs,
        max_num_batched_tokens=engine.limits.max_num_batched_tokens,
    )


def compare(
    setting: Setting, repetitions: int, *, install: bool, report: Report,
    peers: tuple[Peer, ...] = PEERS,
) -> PeersFile:  # fmt: skip
    """Run everybody in turns.

    A peer that is absent or fails is in the result with the reason.
    """
    ours = [_ours(policy, setting, kernel) for kernel in kernels() for policy in OUR_POLICIES]
    theirs: list[_Runner] = []
    missing: list[PeerRun] = []
    for peer in peers:
        report(f"setting up {peer.name}", 0, repetitions)
        try:
            theirs.append(_checked(_theirs(peer, setting, install=install)))
        except ValueError as error:
            missing.append(
                PeerRun(name=peer.name, version=_pinned(peer), what=peer.what, missing=str(error))
            )
    found: dict[str, list[Measured]] = {runner.name: [] for runner in (*ours, *theirs)}
    for repetition in range(repetitions):
        for runner in (*ours, *theirs):
            report(runner.name, repetition, repetitions)
            found[runner.name].append(runner.run())
    return PeersFile(
        machine=Machine.here(),
        turns=found[ours[0].name][0].turns,
        repetitions=repetitions,
        ours=[_summary(runner, found[runner.name]) for runner in ours],
        peers=[*(_summary(runner, found[runner.name]) for runner in theirs), *missing],
        ratios={
            f"{mine.name} / {other.name}": spread(
                [
                    a.per_second / b.per_second
                    for a, b in zip(found[mine.name], found[other.name], strict=True)
                ]
            )
            for mine in ours
            for other in theirs
        },
    )


def _ours(policy: str, setting: Setting, kernel: str) -> _Runner:
    script = ["-m", "benchmarks.peers.ours", policy]
    return _Runner(
        f"agentserve-gym, {policy}, {kernel}",
        version("agentserve-gym"),
        _OURS.format(policy=f"`{policy}`", kernel=kernel),
        lambda: run_script(Path(sys.executable), script, setting, {VARIABLE: kernel}),
    )


def _theirs(peer: Peer, setting: Setting, *, install: bool) -> _Runner:
    python = python_of(peer, install=install)
    return _Runner(
        peer.name,
        _pinned(peer),
        peer.what,
        lambda: run_script(python, ["-P", str(peer.script)], setting, peer.environment),
    )


def _checked(runner: _Runner) -> _Runner:
    """Run once, so that a peer that fails is found before anything is measured."""
    runner.run()
    return runner


def _pinned(peer: Peer) -> str:
    return peer.requirement.partition("==")[2]


def _summary(runner: _Runner, found: list[Measured]) -> PeerRun:
    last = found[-1]
    return PeerRun(
        name=runner.name,
        version=runner.version,
        what=runner.what,
        rate=spread([measured.per_second for measured in found]),
        figures={
            "ttft_ms": last.ttft_ms, "tpot_ms": last.tpot_ms, "cached_share": last.cached_share,
        },
    )  # fmt: skip
