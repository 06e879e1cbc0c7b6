"""What clients may send: OpenAI's request bodies, strictly typed.

Every parameter of OpenAI's is supported, or accepted while its value changes nothing (`only`), or refused
with the way out. None is ignored, and neither is one that OpenAI does not know.

`null` means "not given", as it does at OpenAI. One extension: `top_k`, as vLLM and others have it.
"""

from __future__ import annotations

from typing import Annotated, Literal, cast

from pydantic import (
    BeforeValidator,
    Field,
    TypeAdapter,
    ValidationError,
    ValidationInfo,
    field_validator,
)
from pydantic_core import PydanticCustomError

from serve_apps import errors
from serve_apps.llm.runners import SamplingParams
from serve_apps.strict_json import StrictModel, only

_INT64 = 2**63
_INT32_MAX = 2**31 - 1


def _as_integer(value: object) -> object:
    """`16.0` is an integer to JSON schema, and what some languages send for one."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


_INTEGRAL = BeforeValidator(_as_integer)


def _as_list(value: object) -> object:
    return [value] if isinstance(value, str) else value


def _as_parts(content: object) -> object:
    if isinstance(content, str):
        return [{"type": "text", "text": content}]
    if isinstance(content, list) and content:
        return cast(object, content)
    raise PydanticCustomError(
        "invalid_content", "must be a string or a list of text parts with at least one part"
    )


def _one_prompt(value: object) -> object:
    """A prompt as text or token ids; a list that holds one prompt counts as that prompt."""
    if isinstance(value, list) and value and isinstance(value[0], (str, list)):
        prompts = cast("list[object]", value)
        if len(prompts) > 1:
            raise PydanticCustomError(
                "unsupported_value",
                "has {count} prompts, one is supported; send a request for each",
                {"count": len(prompts)},
            )
        value = prompts[0]
    if isinstance(value, list):
        value = [_as_integer(item) for item in cast("list[object]", value)]
    if value and (isinstance(value, str) or _is_token_ids(value)):
        return value
    raise PydanticCustomError("invalid_prompt", "must be a string or a list of token ids, and not empty")


def _is_token_ids(value: object) -> bool:
    # `type(...) is int`, because true and false are integers to Python
    return isinstance(value, list) and all(type(item) is int for item in cast("list[object]", value))


class TextPart(StrictModel):
    """A piece of a message's content."""

    type: Annotated[str, only("text", instead="this model reads text, no images, audio or files")]
    text: str


# What the validators below turn into a list, for the API's description.
_Content = str | Annotated[list[TextPart], Field(min_length=1)]
StopString = Annotated[str, Field(min_length=1, max_length=256)]
_Stop = StopString | Annotated[list[StopString], Field(max_length=4)]
_TokenIds = Annotated[list[Annotated[int, Field(ge=0)]], Field(min_length=1)]
_Prompt = Annotated[str, Field(min_length=1)] | _TokenIds
_OnePrompt = _Prompt | Annotated[list[_Prompt], Field(min_length=1, max_length=1)]
_NO_TOOLS = "tools are not supported, describe them in the messages"


class Message(StrictModel):
    """One turn of a chat. The parameters below `content` are those an earlier answer may carry back."""

    role: Literal["system", "developer", "user", "assistant"]
    content: Annotated[list[TextPart], BeforeValidator(_as_parts, json_schema_input_type=_Content)]
    name: Annotated[object, only(instead="write the name into the content")] = None
    refusal: Annotated[object, only(instead="write it into the content")] = None
    audio: Annotated[object, only(instead="send its text as the content")] = None
    annotations: Annotated[object, only([], instead="remove them")] = None
    tool_calls: Annotated[object, only([], instead=_NO_TOOLS)] = None
    function_call: Annotated[object, only(instead=_NO_TOOLS)] = None

    @classmethod
    def of_user(cls, text: str) -> Message:
        """A message that a user wrote."""
        return cls(role="user", content=[TextPart(type="text", text=text)])

    @property
    def text(self) -> str:
        """The parts of the content, joined by line breaks as vLLM joins them."""
        return "\n".join(part.text for part in self.content)


class StreamOptions(StrictModel):
    """How a stream is framed; without `stream` nothing changes."""

    include_usage: bool | None = None
    include_obfuscation: Annotated[object, only(False, instead="this server adds no padding")] = None


class GenerationParameters(StrictModel):
    """What both routes take."""

    model: str = Field(min_length=1)
    temperature: float | None = Field(default=None, ge=0, le=2)
    top_p: float | None = Field(default=None, gt=0, le=1)
    top_k: Annotated[int, Field(ge=0, le=_INT32_MAX), _INTEGRAL] | None = None
    max_tokens: Annotated[int, Field(ge=1), _INTEGRAL] | None = None
    seed: Annotated[int, Field(ge=-_INT64, lt=_INT64), _INTEGRAL] | None = None
    stop: (
        Annotated[
            list[StopString],
            Field(max_length=4),
            BeforeValidator(_as_list, json_schema_input_type=_Stop),
        ]
        | None
    ) = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None

    n: Annotated[object, only(1, instead="send the request several times")] = None
    presence_penalty: Annotated[object, only(0, instead="use temperature or top_p for variety")] = None
    frequency_penalty: Annotated[object, only(0, instead="use temperature or top_p for variety")] = None
    logit_bias: Annotated[object, only({}, instead="say in the prompt what to avoid")] = None
    user: str | None = None

    @property
    def sampling(self) -> SamplingParams:
        """How tokens are chosen; what is not given has OpenAI's default."""
        return SamplingParams(
            temperature=1.0 if self.temperature is None else self.temperature,
            top_p=1.0 if self.top_p is None else self.top_p,
            top_k=self.top_k or 0,
            seed=self.seed,
        )

    @property
    def include_usage(self) -> bool:
        """Whether a stream ends with a chunk of token counts."""
        return self.stream_options is not None and bool(self.stream_options.include_usage)

    @property
    def token_limit(self) -> int | None:
        """The longest answer the client wants, tokens; None leaves it to the server."""
        return self.max_tokens


class ChatRequest(GenerationParameters):
    """`POST /v1/chat/completions`."""

    messages: list[Message] = Field(min_length=1)
    max_completion_tokens: Annotated[int, Field(ge=1), _INTEGRAL] | None = None

    audio: Annotated[object, only(instead="this model writes only text")] = None
    function_call: Annotated[object, only("none", "auto", instead=_NO_TOOLS)] = None
    functions: Annotated[object, only([], instead=_NO_TOOLS)] = None
    logprobs: Annotated[object, only(False, instead="leave it out")] = None
    metadata: dict[str, str] | None = None
    modalities: Annotated[object, only(["text"], instead="this model writes only text")] = None
    moderation: Annotated[object, only(instead="moderate in the client")] = None
    parallel_tool_calls: bool | None = None
    prediction: Annotated[object, only(instead="leave it out")] = None
    prompt_cache_key: str | None = None
    prompt_cache_options: Annotated[object, only({}, instead="leave it out")] = None
    prompt_cache_retention: Annotated[object, only("in_memory", instead="leave it out")] = None
    reasoning_effort: Annotated[object, only("none", instead="ask for steps in the messages")] = None
    response_format: Annotated[
        object, only({"type": "text"}, instead="describe the format in the messages")
    ] = None
    safety_identifier: str | None = None
    service_tier: Annotated[object, only("auto", "default", instead="leave it out")] = None
    store: Annotated[object, only(False, instead="nothing is stored, keep the answer in the client")] = None
    tool_choice: Annotated[object, only("none", "auto", instead=_NO_TOOLS)] = None
    tools: Annotated[object, only([], instead=_NO_TOOLS)] = None
    top_logprobs: Annotated[object, only(0, instead="leave it out")] = None
    verbosity: Annotated[object, only("medium", instead="say in the messages how long to be")] = None
    web_search_options: Annotated[object, only(instead="put what was found into the messages")] = None

    @field_validator("max_completion_tokens")
    @classmethod
    def _one_token_limit(cls, value: int | None, info: ValidationInfo) -> int | None:
        if value is not None and info.data.get("max_tokens") not in (None, value):
            raise PydanticCustomError("invalid_value", "differs from max_tokens; send one of them")
        return value

    @property
    def token_limit(self) -> int | None:
        """The longest answer the client wants, tokens; None is as long as the context allows."""
        return self.max_tokens or self.max_completion_tokens


class CompletionRequest(GenerationParameters):
    """`POST /v1/completions`."""

    prompt: Annotated[str | list[int], BeforeValidator(_one_prompt, json_schema_input_type=_OnePrompt)]

    best_of: Annotated[object, only(1, instead="send the request several times")] = None
    echo: Annotated[object, only(False, instead="put the prompt before the answer in the client")] = None
    logprobs: Annotated[object, only(instead="leave it out")] = None
    suffix: Annotated[object, only("", instead="put what follows into the prompt")] = None


class InferQuery(StrictModel):
    """`GET /infer`: one user message."""

    sentence: str = Field(min_length=1)


_Sentence = TypeAdapter(Annotated[str, Field(min_length=1, strict=True)])


def parse_sentence(body: bytes) -> str:
    """`body` as one JSON string. Raises `ApiError` (400)."""
    try:
        return _Sentence.validate_json(body)
    except ValidationError as error:
        raise errors.from_validation(error.errors(include_url=False, include_input=False)) from None
