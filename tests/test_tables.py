"""TOML that is written reads back."""

from __future__ import annotations

import tomllib

import pytest

from agentserve_gym.tables import to_toml


def test_toml_text_reads_back() -> None:
    table = {
        "source": 'quoted "text"',
        "share": 0.25,
        "rows": [{"family": "constant", "value": 2.0}],
        "nested": {"bash:test": {"duration_s": {"family": "gamma", "shape": 1.0, "scale": 2.0}}},
        "numbers": [1, 2.5],
        "matrix": [[1.0, 2.0], [3.0, 4.0]],
        "flag": True,
        "name": "tab\\tand ü",
    }
    assert tomllib.loads(to_toml(table)) == table


@pytest.mark.parametrize("value", [None, float("nan"), {1, 2}])
def test_what_toml_does_not_have_is_refused(value: object) -> None:
    with pytest.raises((TypeError, ValueError)):
        to_toml({"value": value})
