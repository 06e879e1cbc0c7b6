"""What every part of a stack file's model has in common."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, BeforeValidator, ConfigDict
from pydantic.alias_generators import to_camel


class ConfigModel(BaseModel):
    """Unknown keys are errors, and so are Python names of keys: a stack file has one spelling."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, alias_generator=to_camel, strict=True, allow_inf_nan=False
    )


def _digits_as_written(value: object) -> object:
    """The text of a number where YAML kept it; raises ValueError where a zero at its end may be lost."""
    if isinstance(value, float) and len(str(value).partition(".")[2]) == 1:
        raise ValueError(
            f"{value} is a number, and YAML reads {value} and {value}0 as the same number; put the right one "
            f"in quotes, '{value}' or '{value}0'"
        )
    return str(value) if isinstance(value, int | float) and not isinstance(value, bool) else value


# A text like 1.35 or 20260714, which YAML reads as a number unless it stands in quotes.
Digits = Annotated[str, BeforeValidator(_digits_as_written)]
