"""Request bodies, strictly typed: what is not known is refused, and so is a value that would be ignored."""

from __future__ import annotations

from typing import TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, ValidationError
from pydantic_core import PydanticCustomError, to_json

from serve_apps import errors

_Request = TypeVar("_Request", bound=BaseModel)


class StrictModel(BaseModel):
    """No unknown keys, no string that becomes a number, no NaN, and no prompt in an error."""

    model_config = ConfigDict(
        extra="forbid", strict=True, frozen=True, allow_inf_nan=False, hide_input_in_errors=True
    )


def parse(model: type[_Request], body: bytes) -> _Request:
    """`body` as a request. Raises `ApiError` (400) that names the parameter at fault."""
    try:
        return model.model_validate_json(body)
    except ValidationError as error:
        raise errors.from_validation(error.errors(include_url=False)) from None


def only(*neutral: object, instead: str) -> AfterValidator:
    """Accept the values that change nothing (and null), refuse the others with what to do instead."""
    accepted = " or ".join(to_json(value).decode() for value in neutral)

    def check(value: object) -> object:
        if value is None or any(_equal(value, harmless) for harmless in neutral):
            return value
        raise PydanticCustomError(
            "unsupported_value",
            "only {accepted} is supported; {instead}" if accepted else "not supported; {instead}",
            {"accepted": accepted, "instead": instead},
        )

    return AfterValidator(check)


def _equal(left: object, right: object) -> bool:
    return left == right and isinstance(left, bool) == isinstance(right, bool)
