"""What computes the features is what the table of them says."""

from __future__ import annotations

from tools.feature_values import TARGET, source


def test_the_module_is_as_the_table_has_it() -> None:
    assert TARGET.read_text(encoding="utf-8") == source()
