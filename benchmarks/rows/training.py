"""Where the time of training goes."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from benchmarks.measure import Bench, Result, Table, Target, spread

_TITLE = "MaskablePPO end to end (batch 512, 4 epochs): share of the environment"
_PARTS = ("environment", "choosing actions", "updates", "the rest of SB3")


def training(bench: Bench) -> list[Result]:
    """Learn for a few thousand decisions with the package's own network and environments."""
    try:
        shares, rate = _learn(bench)
    except ModuleNotFoundError as error:
        return [Result(row="training", title=_TITLE, unit="%", missing=str(error))]
    runs = [dict(zip(_PARTS, run, strict=True)) for run in shares]
    rows = []
    for part in _PARTS:
        share = spread([100 * run[part] for run in runs])
        rows.append([part, f"{share.median:.0f} %", f"{share.low:.0f} to {share.high:.0f} %"])
    return [
        Result(
            row="training",
            title=_TITLE,
            unit="%",
            measured=spread([100 * run["environment"] for run in runs]),
            target=Target(limit=20, at="most", text="under 20 %"),
            tables=[
                Table(
                    title="Where a training run spends its time",
                    heading=["part", "share", "range"],
                    rows=rows,
                    note=f"{len(runs)} rollouts with their updates, {rate:,.0f} decisions/s all "
                    "together, 8 environments in one process, torch on one thread.",
                )
            ],
        )
    ]


def _learn(bench: Bench) -> tuple[list[list[float]], float]:
    """Shares of each rollout and update, and decisions per second."""
    from agentserve_gym.train import TrainSettings
    from agentserve_gym.train.learners import make_learner
    from agentserve_gym.train.settings import PpoSettings
    from agentserve_gym.train.workers import make_workers

    workers = 8
    rollout = min(256, bench.sizes.training_steps // workers)
    ppo = PpoSettings(rollout_steps=rollout, batch_size=512, epochs=4, target_kl=None)
    settings = TrainSettings(workers=workers, ppo=ppo, imitate="none")
    environments = make_workers(settings)
    learner: Any = make_learner(settings, environments)
    seconds = {"environment": 0.0, "choosing actions": 0.0, "updates": 0.0}
    _time_calls(environments, ("step", "reset", "env_method"), seconds, "environment")
    _time_calls(learner.policy, ("forward", "predict_values"), seconds, "choosing actions")
    _time_calls(learner, ("train",), seconds, "updates")
    learner.learn(rollout * workers)  # warm-up: the first rollout allocates
    shares: list[list[float]] = []
    learned_s = 0.0
    total = max(2, bench.sizes.training_steps // (rollout * workers))
    for number in range(total):
        bench.report("rollouts and updates", number, total)
        before = dict(seconds)
        started = time.perf_counter()
        learner.learn(rollout * workers, reset_num_timesteps=False)
        taken = time.perf_counter() - started
        learned_s += taken
        parts = [(seconds[part] - before[part]) / taken for part in _PARTS[:-1]]
        shares.append([*parts, max(0.0, 1 - sum(parts))])
    bench.report("", total, total)
    return shares, total * rollout * workers / learned_s


def _time_calls(owner: Any, names: tuple[str, ...], seconds: dict[str, float], part: str) -> None:
    """Replace methods of one object by ones that add up their time."""

    def timed(call: Callable[..., Any]) -> Callable[..., Any]:
        def measured(*args: Any, **options: Any) -> Any:
            started = time.perf_counter()
            try:
                return call(*args, **options)
            finally:
                seconds[part] += time.perf_counter() - started

        return measured

    for name in names:
        # Not setattr: torch modules refuse what is no module under a method's name.
        owner.__dict__[name] = timed(getattr(owner, name))
