"""A complete Ray Serve application: tells the language of a text by its most common words.

`GET /guess?text=` answers `{"language": "fr", "share": 0.5}`, the share of words that gave it away.
"""

from fastapi import FastAPI, HTTPException
from pydantic import BaseModel, ConfigDict, Field
from ray import serve
from ray.serve import Application

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
        words = text.lower().split()
        if len(words) < self._min_words:
            raise HTTPException(422, f"text has {len(words)} words, {self._min_words} are needed")
        shares = {
            language: sum(word in common for word in words) / len(words)
            for language, common in self._words.items()
        }
        best = max(shares, key=shares.__getitem__)
        return {"language": best, "share": round(shares[best], 2)}

    @api.get("/health")
    def health(self) -> dict[str, str]:
        """For probes."""
        return {"status": "ok"}


def build_app(args: Args) -> Application:
    """What `importPath` names."""
    return Guesser.bind(args)
