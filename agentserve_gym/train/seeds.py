"""Which workload seeds are for what, so that no policy is judged on programs it has seen.

- 0 to 99: evaluation, the reported numbers; never trained on, and nothing is chosen by them;
- 500,000 to 500,099: selection, which checkpoint of a run is kept;
- 600,000 to 600,099: tuning, which settings of a run are kept (``agentserve_gym.tuning``);
- from 2^20 (1,048,576): training, imitation, and the choice of a teacher. The environments' own
  ``reset()`` without a seed draws from the same range.
"""

from __future__ import annotations

from collections.abc import Iterable

from agentserve_gym.envs import FIRST_DRAWN_SEED
from agentserve_gym.sim.kernel.randomness import mix

EVALUATION_SEEDS = range(100)
SELECTION_SEEDS = range(500_000, 500_100)
FIRST_TRAINING_SEED = FIRST_DRAWN_SEED
_LAST_TRAINING_SEED = 2**31 - 1


def training_seed(seed: int, worker: int, episode: int) -> int:
    """The workload seed of one training episode; every (seed, worker, episode) draws its own."""
    span = _LAST_TRAINING_SEED - FIRST_TRAINING_SEED
    return FIRST_TRAINING_SEED + mix(seed, worker, episode) % span


def evaluation_seeds(count: int) -> list[int]:
    """The first ``count`` evaluation seeds.

    Raises:
        ValueError: if there are not so many.
    """
    if not 2 <= count <= len(EVALUATION_SEEDS):
        raise ValueError(
            f"seeds is {count}; allowed: 2 to {len(EVALUATION_SEEDS)} "
            "(an interval needs two, and these are all that are kept from training)"
        )
    return list(EVALUATION_SEEDS[:count])


def check_not_trained_on(seeds: Iterable[int]) -> None:
    """Refuse to report numbers on seeds that training or selection may have used.

    Raises:
        ValueError: naming the first such seed.
    """
    for seed in seeds:
        if seed not in EVALUATION_SEEDS:
            raise ValueError(
                f"evaluation seed {seed} is outside {EVALUATION_SEEDS[0]} to "
                f"{EVALUATION_SEEDS[-1]}, the seeds that training never uses"
            )
