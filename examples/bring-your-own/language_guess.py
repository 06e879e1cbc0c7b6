"""A complete Ray Serve application: tells the language of a text by its most common words.

`GET /guess?text=` answers `{"language": "fr", "share": 0.5}`, the share of words that gave it away. The same
by gRPC: `Guess`, and `Watch`, which guesses anew after every word (language_guess.proto).
"""

from collections.abc import Iterator

import grpc
from fastapi import FastAPI, HTTPException
from language_guess_pb2 import GuessReply, GuessRequest
from pydantic import BaseModel, ConfigDict, Field
from ray import serve
from ray.serve import Application
from ray.serve.grpc_util import RayServegRPCContext

COMMON_WORDS = {
    "de": {"der", "die", "das", "und", "ist", "nicht", "ein", "eine", "zu", "mit", "ich", "wo"},
    "en": {"the", "and", "is", "not", "a", "an", "of", "to", "with", "in", "i", "where"},
    "es": {"el", "los", "las", "y", "es", "no", "un", "una", "de", "con", "yo", "donde"},
    "fr": {"le", "les", "et", "est", "pas", "un", "une", "de", "avec", "je", "dans", "où"},
}
api = FastAPI()


class Args(BaseModel):
    """`args` of the stack file; Ray Serve refuses a deployment whose args do not fit."""

    model_config = ConfigDict(extra="forbid")

    languages: list[str] = Field(min_length=1)
    min_words: int = Field(default=1, ge=1)


@serve.deployment
@serve.ingress(api)
class Guesser:
    """One replica."""

    def __init__(self, args: Args) -> None:
        self._words = {language: COMMON_WORDS[language] for language in args.languages}
        self._min_words = args.min_words

    @api.get("/guess")
    def guess(self, text: str) -> dict[str, str | float]:
        """The language whose common words make up the largest share of the text."""
        try:
            language, share = self._best(text.lower().split())
        except ValueError as error:
            raise HTTPException(422, str(error)) from None
        return {"language": language, "share": share}

    # Ray calls the method that has the name of the remote procedure.

    def Guess(self, request: GuessRequest, grpc_context: RayServegRPCContext) -> GuessReply:  # noqa: N802
        """The same."""
        try:
            language, share = self._best(request.text.lower().split())
        except ValueError as error:
            grpc_context.set_code(grpc.StatusCode.INVALID_ARGUMENT)
            grpc_context.set_details(str(error))
            return GuessReply()
        return GuessReply(language=language, share=share)

    def Watch(self, request: GuessRequest) -> Iterator[GuessReply]:  # noqa: N802
        """The guess after each word, from the first number of words that will do."""
        words = request.text.lower().split()
        for count in range(self._min_words, len(words) + 1):
            language, share = self._best(words[:count])
            yield GuessReply(language=language, share=share)

    def _best(self, words: list[str]) -> tuple[str, float]:
        if len(words) < self._min_words:
            raise ValueError(f"text has {len(words)} words, {self._min_words} are needed")
        shares = {
            language: sum(word in common for word in words) / len(words)
            for language, common in self._words.items()
        }
        best = max(shares, key=shares.__getitem__)
        return best, round(shares[best], 2)

    @api.get("/health")
    def health(self) -> dict[str, str]:
        """For probes."""
        return {"status": "ok"}


def build_app(args: Args) -> Application:
    """What `importPath` names."""
    return Guesser.bind(args)
