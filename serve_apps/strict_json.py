"""Request bodies, strictly typed: what is not known is refused, and so is a value that would be ignored."""

from __future__ import annotations

from typing import TypeVar

from pydantic import BaseModel, ConfigDict, GetCoreSchemaHandler, GetJsonSchemaHandler, ValidationError
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, PydanticCustomError, core_schema, to_json

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


class only:  # noqa: N801 - used as a function in annotations
    """Accept the values that change nothing (and null), refuse the others with what to do instead."""

    def __init__(self, *neutral: object, instead: str) -> None:
        self._neutral = neutral
        self._instead = instead

    def __get_pydantic_core_schema__(self, source: object, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_after_validator_function(self._check, handler(source))

    def __get_pydantic_json_schema__(
        self, schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        # A field that may be null is typed `object`, which says nothing in JSON schema.
        nullable = not handler(schema)
        return {"enum": [*self._neutral, None] if nullable else list(self._neutral)}

    def _check(self, value: object) -> object:
        if value is None or any(_equal(value, harmless) for harmless in self._neutral):
            return value
        accepted = " or ".join(to_json(harmless).decode() for harmless in self._neutral)
        raise PydanticCustomError(
            "unsupported_value",
            "only {accepted} is supported; {instead}" if accepted else "not supported; {instead}",
            {"accepted": accepted, "instead": self._instead},
        )


def _equal(left: object, right: object) -> bool:
    return left == right and isinstance(left, bool) == isinstance(right, bool)
