"""Environments for vLLM and SGLang: the wheel alone and what their schedulers import."""

from __future__ import annotations

import subprocess
from pathlib import Path

from benchmarks.peers.venv import set_up

_HERE = Path(__file__).parent
_TORCH = ["torch==2.13.0"]
_GRAMMARS = ("xgrammar==0.2.8", "apache-tvm-ffi==0.1.15.post2")
_VLLM = "vllm==0.33.0"
SGLANG = "sglang==0.5.23"


def vllm_python(*, install: bool) -> Path:
    """The Python that has vLLM.

    Raises:
        ValueError: if it is absent and may not be installed, or cannot be; in one line.
    """
    return _python("vllm", _VLLM, "requirements.txt", install=install)


def sglang_python(*, install: bool) -> Path:
    """The Python that has SGLang.

    Raises:
        ValueError: as `vllm_python`.
    """
    return _python("sglang", SGLANG, "requirements-sglang.txt", install=install)


def _python(name: str, wheel: str, requirements: str, *, install: bool) -> Path:
    installs = (
        _TORCH,
        ["-r", str(_HERE / requirements)],
        ["--no-deps", wheel, *_GRAMMARS],
    )
    return set_up(_HERE / f".venv-{name}", wheel, installs, install=install)


def installed_version(python: Path) -> str:
    """vLLM's version there."""
    code = "from importlib.metadata import version; print(version('vllm'))"
    found = subprocess.run([str(python), "-c", code], capture_output=True, text=True, check=True)
    return found.stdout.strip()
