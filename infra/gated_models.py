"""Which models of the Hugging Face Hub are known to be behind an access request.

A download without a token fails after the nodes were paid for, so a stack that names one of these without
`huggingFaceToken` is refused at preview. The list is what users met, each with its source, as far as the gate
is part of the model's licence. Other gates come and go (mistralai's were closed in 2024-05,
https://github.com/huggingface/alignment-handbook/issues/166), so a service may say `gated: true` or
`gated: false` itself and that wins.
"""

from __future__ import annotations

# Prefix of the Hub id, lower case -> (page where access is requested, source: users were refused without it).
_GATED_PREFIXES = {
    "meta-llama/": (
        "https://huggingface.co/meta-llama",
        "https://github.com/sgl-project/sglang/issues/387 (2024-04)",
    ),
    "google/gemma-": (
        "https://huggingface.co/google/gemma-2b-it",
        "https://github.com/city96/ComfyUI_ExtraModels/issues/99 (2024-12)",
    ),
}


def consent_page(model: str) -> str | None:
    """The page where access to a gated model is requested, or None if the model is not known to be gated."""
    for prefix, (page, _source) in _GATED_PREFIXES.items():
        if model.lower().startswith(prefix):
            return page
    return None
