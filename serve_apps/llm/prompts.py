"""From what a client wrote to token ids, and how many tokens may follow them.

Only the tokenizer is needed, so nothing here imports torch; both transformers 4 and 5 will do.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from jinja2 import TemplateError
from transformers import PreTrainedTokenizerFast

from serve_apps import errors
from serve_apps.llm.protocol import Message

DEFAULT_COMPLETION_TOKENS = 16
_LONGEST_TEMPLATE_MESSAGE = 200
# Put around what users wrote but the tokenizer would read as a control token. Unicode keeps these two for
# use inside a program, so dropping them from messages loses nothing.
_OPEN, _CLOSE = "\ufdd0", "\ufdd1"
_WITHOUT_MARKS = str.maketrans("", "", _OPEN + _CLOSE)


def load_tokenizer(model_dir: Path) -> PreTrainedTokenizerFast:
    """The tokenizer in `model_dir`, with its chat template if it has one. Raises `FileNotFoundError`."""
    # `AutoTokenizer` would import torch to find the class; the file below says all that the class would.
    if not (model_dir / "tokenizer.json").is_file():
        raise FileNotFoundError(
            f"{model_dir} has no tokenizer.json; convert the tokenizer once with "
            "AutoTokenizer.from_pretrained(DIR).save_pretrained(DIR)"
        )
    return PreTrainedTokenizerFast.from_pretrained(model_dir, local_files_only=True)


class Prompts:
    """Turns messages and prompts into token ids that fit the model's context.

    Not thread-safe, because the tokenizer is not.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerFast, max_model_len: int) -> None:
        self._tokenizer = tokenizer
        self.max_model_len = max_model_len
        self.vocabulary_size = len(tokenizer)
        template = tokenizer.get_chat_template() if tokenizer.chat_template else ""
        self._has_template = bool(template)
        self._knows_developer = "developer" in template
        self._control_tokens = _any_of(
            token.content
            for token in tokenizer.added_tokens_decoder.values()
            # Some models' turn markers are added tokens that are not flagged as special.
            if token.special or (token.content.strip() and token.content in template)
        )

    def chat(self, messages: Sequence[Message]) -> list[int]:
        """Token ids of a conversation, up to where the answer begins. Raises `ApiError` (400).

        What stands in a message is text: a control token such as `<|im_end|>` in it is encoded letter by
        letter, so that nobody can end a message and begin another one from within.
        """
        if not self._has_template:
            raise errors.invalid(
                "This model has no chat template; use /v1/completions, or a model tuned for chat.",
                param="messages",
                code="no_chat_template",
            )
        conversation = [self._turn(message) for message in messages]
        try:
            rendered = self._tokenizer.apply_chat_template(
                conversation, tokenize=False, add_generation_prompt=True
            )
        except Exception as error:  # whatever a template raises, it is about these messages
            raise _refused_by_template(error) from None
        return self._encode_rendered(str(rendered))

    def completion(self, prompt: str | Sequence[int]) -> list[int]:
        """Token ids of a prompt that is used as it is, control tokens included. Raises `ApiError` (400)."""
        if not isinstance(prompt, str):
            return self._checked_ids(prompt)
        bos = self._tokenizer.bos_token
        has_bos = isinstance(bos, str) and prompt.startswith(bos)
        ids = self._tokenizer.encode(prompt, add_special_tokens=not has_bos)
        if not ids:
            raise errors.invalid("prompt: has no tokens; write some text.", param="prompt")
        return ids

    def budget(self, ids: Sequence[int], asked: int | None, *, default: int | None = None, param: str) -> int:
        """How many tokens the answer may have: what is asked for, else `default`, else what is left.

        Raises `ApiError` (400) if prompt and answer do not fit the context.
        """
        left = self.max_model_len - len(ids)
        if left < (asked or 1):
            raise errors.context_length_exceeded(
                prompt_tokens=len(ids), max_tokens=asked, max_model_len=self.max_model_len, param=param
            )
        return asked or min(left, default or left)

    def _turn(self, message: Message) -> dict[str, str]:
        role = message.role
        if role == "developer" and not self._knows_developer:
            role = "system"
        return {"role": role, "content": self._marked(message.text)}

    def _marked(self, text: str) -> str:
        own = text.translate(_WITHOUT_MARKS)
        return self._control_tokens.sub(lambda match: f"{_OPEN}{match[0]}{_CLOSE}", own)

    def _encode_rendered(self, rendered: str) -> list[int]:
        """Token ids of a rendered template, whose own control tokens count and whose marked ones do not."""
        ids: list[int] = []
        for index, piece in enumerate(_MARKED.split(rendered)):
            # `split` alternates between text and what was marked. A template that cuts strings may leave a
            # single mark in the text.
            parts = re.split(f"[{_OPEN}{_CLOSE}]", piece) if index % 2 == 0 else list(piece)
            for part in filter(None, parts):
                ids += self._tokenizer.encode(part, add_special_tokens=False)
            if len(ids) > self.max_model_len:
                break  # too long already; thousands of pieces would keep other requests waiting
        return ids

    def _checked_ids(self, ids: Sequence[int]) -> list[int]:
        for index, token in enumerate(ids):
            if not 0 <= token < self.vocabulary_size:
                raise errors.invalid(
                    f"prompt[{index}]: is not a token id of this model; they go from 0 to "
                    f"{self.vocabulary_size - 1}.",
                    param=f"prompt[{index}]",
                )
        return list(ids)


_MARKED = re.compile(f"{_OPEN}([^{_OPEN}{_CLOSE}]*){_CLOSE}")


def _any_of(tokens: Iterable[str]) -> re.Pattern[str]:
    longest_first = sorted(tokens, key=len, reverse=True)
    return re.compile("|".join(map(re.escape, longest_first)) or "(?!)")


def _refused_by_template(error: Exception) -> errors.ApiError:
    # A template writes its own messages for users; any other exception may quote what they wrote.
    reason = (
        str(error)[:_LONGEST_TEMPLATE_MESSAGE] if isinstance(error, TemplateError) else type(error).__name__
    )
    return errors.invalid(
        f"The model's chat template refuses these messages: {reason}.",
        param="messages",
        code="chat_template_error",
    )
