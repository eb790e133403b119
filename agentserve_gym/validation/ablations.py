"""What each modelled mechanism is worth: cases replayed with one of them left out."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from agentserve_gym.hardware import kv_pool_blocks
from agentserve_gym.sim import Scenario
from agentserve_gym.validation.cases import MeasuredCase
from agentserve_gym.validation.compare import CaseErrors, compare
from agentserve_gym.validation.replay import Replay, ReplaySettings, replay, replay_scenario

ChangeScenario = Callable[[Scenario], Scenario]


@dataclass(frozen=True, slots=True)
class Ablation:
    """A mechanism that can be left out of a scenario, and what that says."""

    name: str
    change: ChangeScenario
    concerns: Callable[[ReplaySettings], bool]


@dataclass(frozen=True, slots=True)
class AblationResult:
    """Errors of a case with everything (``whole``) and with one mechanism left out."""

    name: str
    whole: CaseErrors
    without: CaseErrors

    def as_dict(self) -> dict[str, Any]:
        """Plain numbers."""
        return {
            "ablation": self.name,
            "whole": self.whole.as_dict(),
            "without": self.without.as_dict(),
        }


@dataclass(frozen=True, slots=True)
class PoolError:
    """What a wrong KV pool does: relative change of simulated means."""

    run: str
    blocks: int
    wrong_blocks: int
    ttft: float
    e2e: float
    preemptions: int
    wrong_preemptions: int

    def as_dict(self) -> dict[str, Any]:
        """Plain numbers."""
        return {
            "run": self.run,
            "blocks": self.blocks,
            "wrong_blocks": self.wrong_blocks,
            "ttft": self.ttft,
            "e2e": self.e2e,
            "preemptions": self.preemptions,
            "wrong_preemptions": self.wrong_preemptions,
        }


def _engine(**changes: Any) -> ChangeScenario:
    def change(scenario: Scenario) -> Scenario:
        engine = scenario.engine.model_copy(update=changes)
        return scenario.model_copy(update={"engine": engine})

    return change


ABLATIONS = (
    Ablation(
        "synchronous scheduling: arrivals and freed slots are seen one step earlier",
        _engine(async_scheduling=False),
        lambda _: True,
    ),
    Ablation(
        "expert layers padded to the largest batch in every step, not in CUDA graphs alone",
        _engine(max_cudagraph_tokens=1_000_000),
        lambda settings: settings.data_parallel > 1 and settings.expert_parallel > 1,
    ),
)
NO_SKEW = "unequal contexts cost what equal ones of the same mean do"


def run_ablations(case: MeasuredCase, whole: CaseErrors) -> list[AblationResult]:
    """Leave out each mechanism that concerns the case, under the case's timing source."""
    scenario = case.settings.scenario()
    results = [
        AblationResult(
            ablation.name, whole, compare(case, replay_scenario(ablation.change(scenario)))
        )
        for ablation in ABLATIONS
        if ablation.concerns(case.settings)
    ]
    if case.settings.profile is not None:
        with without_skew(case.settings.profile) as flat:
            replayed = replay(replace(case.settings, profile=flat))
        results.append(AblationResult(NO_SKEW, whole, compare(case, replayed)))
    return results


@contextmanager
def without_skew(profile: Path) -> Iterator[Path]:
    """A copy of a profile folder in which unequal contexts cost nothing more."""
    with TemporaryDirectory() as place:
        root = Path(place) / profile.parent.name
        shutil.copytree(profile, root / profile.name)
        experts = profile.parent / "tp1"
        if experts.is_dir() and experts != profile:
            shutil.copytree(experts, root / "tp1")
        (root / "meta.yaml").write_text("skew_fit: {enabled: false}\n", encoding="utf-8")
        yield root / profile.name


def pool_error(name: str, settings: ReplaySettings, factor: float = 1.31) -> PoolError:
    """Replay with the KV pool ``factor`` times as large, as memory arithmetic without the engine's
    own overhead gives it (LLMServingSim: 54,400 for 41,408 tokens)."""
    blocks = settings.kv_blocks or kv_pool_blocks(
        settings.accelerator,
        settings.model,
        settings.tensor_parallel,
        expert_parallel=settings.expert_parallel,
    )
    wrong = round(blocks * factor)
    right = replay(settings)
    other = replay(replace(settings, kv_blocks=wrong))
    return PoolError(
        name,
        blocks,
        wrong,
        _change(right.ttft_s().mean(), other.ttft_s().mean()),
        _change(right.e2e_s().mean(), other.e2e_s().mean()),
        _preemptions(right),
        _preemptions(other),
    )


def _preemptions(replayed: Replay) -> int:
    return int(replayed.report["preemptions"])


def _change(right: Any, wrong: Any) -> float:
    return float(wrong / right - 1.0)
