"""The shape of a model: what its memory on a device follows from."""

from __future__ import annotations

from pydantic import Field, PositiveInt, model_validator

from infra.config_model import ConfigModel


class ModelShape(ConfigModel):
    """Numbers from a model's config.json on the Hugging Face Hub, for models without a known shape."""

    family: str = Field(
        min_length=1,
        description="`model_type` of config.json, like llama or mistral; engines support only some.",
        examples=["mistral"],
    )
    layers: PositiveInt = Field(description="`num_hidden_layers`.", examples=[32])
    hidden_size: PositiveInt = Field(description="`hidden_size`.", examples=[4096])
    intermediate_size: PositiveInt = Field(description="`intermediate_size`.", examples=[14336])
    heads: PositiveInt = Field(description="`num_attention_heads`.", examples=[32])
    kv_heads: PositiveInt = Field(
        description="`num_key_value_heads`; equal to `heads` if there is none.", examples=[8]
    )
    head_dim: PositiveInt | None = Field(
        default=None,
        description="`head_dim`; `hiddenSize` divided by `heads` if there is none.",
        examples=[128],
    )
    vocabulary: PositiveInt = Field(description="`vocab_size`.", examples=[32768])
    tied_embeddings: bool = Field(
        default=False, description="`tie_word_embeddings`: input and output share one matrix."
    )
    max_context: PositiveInt = Field(description="`max_position_embeddings`, tokens.", examples=[32768])

    @model_validator(mode="after")
    def _heads_divide(self) -> ModelShape:
        if self.heads % self.kv_heads:
            raise ValueError(
                f"heads {self.heads} is not a multiple of kvHeads {self.kv_heads}; copy both from config.json"
            )
        if self.head_dim is None and self.hidden_size % self.heads:
            raise ValueError(
                f"hiddenSize {self.hidden_size} is not a multiple of heads {self.heads}, so headDim is "
                "needed; copy it from config.json"
            )
        return self

    @property
    def head_size(self) -> int:
        """Width of one attention head."""
        return self.head_dim or self.hidden_size // self.heads

    @property
    def parameters(self) -> int:
        """Weights of the checkpoint: embeddings, attention, gated MLP, RMS norms."""
        attention = 2 * self.hidden_size * self.head_size * (self.heads + self.kv_heads)
        mlp = 3 * self.hidden_size * self.intermediate_size
        norms = 2 * self.hidden_size
        embeddings = self.vocabulary * self.hidden_size * (1 if self.tied_embeddings else 2)
        return self.layers * (attention + mlp + norms) + self.hidden_size + embeddings
