"""What every entry of the hardware catalogue has."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, model_validator


class Entry(BaseModel):
    """A name, a title, and a source for each number and each precision."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    name: str
    title: str
    sources: dict[str, str]

    @model_validator(mode="after")
    def _every_number_has_a_source(self) -> Entry:
        for key in type(self).model_fields:
            value = getattr(self, key)
            is_number = isinstance(value, int | float) and not isinstance(value, bool)
            is_precision = key.endswith("_dtype") and value is not None
            if (is_number or is_precision) and not self.sources.get(key, "").strip():
                raise ValueError(f"{self.name}: no source for {key} = {value}")
        return self
