"""What ``gym.make`` notes down of an environment, ``env.spec``, in a form that JSON can hold."""

from __future__ import annotations

from dataclasses import replace

from gymnasium.envs.registration import EnvSpec
from pydantic_core import to_jsonable_python


def jsonable(spec: EnvSpec | None) -> EnvSpec | None:
    """The specification with scenarios, paths and enumerations as mappings and strings, from which
    ``gym.make`` makes an equal environment. A reward object stays what it is: it has no JSON."""
    if spec is None:
        return None
    kwargs = {
        name: value if name == "reward" else to_jsonable_python(value, fallback=int)
        for name, value in spec.kwargs.items()
    }
    return replace(spec, kwargs=kwargs)
