"""A scene as text, for terminals."""

from __future__ import annotations

from agentserve_gym.envs.rendering.scene import STATUS_NAMES, InstanceScene, PoolScene, Scene

_BAR_WIDTH = 30


def describe(scene: Scene) -> str:
    """The scene in lines of text: a clock, programs, an instance a line, lower tiers, question."""
    lines = [
        f"{scene.scenario} (seed {scene.seed})  t = {scene.time_s:.3f} s  "
        f"{scene.done_programs}/{scene.total_programs} programs done, {scene.turns_done} turns, "
        f"mean JCT {scene.mean_jct_s:.1f} s",
        "programs: "
        + ", ".join(f"{count} {STATUS_NAMES[s]}" for s, count in scene.programs.items() if count),
    ]
    width = max(len(instance.hardware) for instance in scene.instances)
    lines += [_instance(instance, width) for instance in scene.instances]
    lines += [f"{tier.name:<12} {_bar(tier)}" for tier in scene.lower_tiers]
    lines += [f"held turns: {scene.held_turns}", f"> {scene.question}"]
    return "\n".join(lines)


def _instance(instance: InstanceScene, width: int) -> str:
    return (
        f"instance {instance.name:>2} {instance.hardware:<{width}} "
        f"prefill {instance.prefilling:>2} decode {instance.decoding:>3} "
        f"queue {instance.queued:>3} loading {instance.loading:>2}  HBM {_bar(instance.hbm)}"
    )


def _bar(pool: PoolScene) -> str:
    """``#`` in use, ``P`` pinned, ``=`` cached, ``.`` free."""
    used = round(pool.used * _BAR_WIDTH)
    pinned = round((pool.used + pool.pinned) * _BAR_WIDTH) - used
    cached = round(pool.full * _BAR_WIDTH) - used - pinned
    bar = "#" * used + "P" * pinned + "=" * cached
    return f"[{bar:.<{_BAR_WIDTH}}] {pool.full:4.0%}"
