"""Optional parts of the installation: which extra brings which module, and how to say so."""

from __future__ import annotations

_EXTRA_OF_MODULE = {
    "matplotlib": "plot",
    "perfetto": "trace",
    "ray": "scale",
    "optuna": "scale",
    "torch": "train",
    "stable_baselines3": "train",
    "sb3_contrib": "train",
    "tensorboard": "train",
    "tqdm": "train",
    "wandb": "log",
    "mlflow": "log",
    "aiconfigurator_core": "calibration",
}


def how_to_install(module: str) -> str | None:
    """One line that names the extra of a missing module; ``None`` if no extra brings it."""
    package = module.partition(".")[0]
    extra = _EXTRA_OF_MODULE.get(package)
    if extra is None:
        return None
    return (
        f"{package} is not installed; it comes with the extra {extra!r}: in the checkout, "
        f"pip install -c constraints.txt '.[{extra}]'; of a wheel: pip install 'FILE.whl[{extra}]'"
    )
