"""Configuration of the store of Ray's state."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from infra import versions
from infra.config_model import ConfigModel, Digits


class GcsStore(ConfigModel):
    """Where Ray's head keeps its state, so that the death of the head loses nothing."""

    kind: Literal["elasticache", "inCluster", "none"] = Field(
        description="`elasticache`: a replicated Redis of AWS. `inCluster`: one pod, for development. "
        "`none`: a head that dies takes the service with it.",
    )
    engine: Literal["redis", "valkey"] = Field(default="redis", description="Engine of ElastiCache.")
    engine_version: Digits | None = Field(
        default=None,
        description="Version of that engine; 7.1 for redis and 7.2 for valkey if unset.",
        examples=["7.1"],
    )
    node_type: str = Field(
        default="cache.t4g.small",
        pattern=r"^cache\.[a-z0-9]+\.[a-z0-9]+$",
        json_schema_extra={"form": "a node type of ElastiCache"},
        description="ElastiCache node type.",
    )
    nodes: int = Field(default=2, ge=2, le=6, description="Primary and replicas, over the zones.")
    snapshot_retention_days: int = Field(default=1, ge=0, le=35, description="Daily snapshots kept.")
    image: str = Field(
        default=versions.VALKEY_IMAGE, min_length=1, description="Image of the `inCluster` store."
    )

    @model_validator(mode="after")
    def _keys_have_an_effect(self) -> GcsStore:
        mine = {"elasticache": set(type(self).model_fields) - {"image"}, "inCluster": {"kind", "image"}}
        for name in sorted(self.model_fields_set - mine.get(self.kind, {"kind"})):
            alias = type(self).model_fields[name].alias
            raise ValueError(f"{alias} has no effect with kind {self.kind!r}; remove it")
        return self

    @model_validator(mode="after")
    def _engine_has_the_version(self) -> GcsStore:
        known = versions.ELASTICACHE[self.engine]
        if self.engine_version is not None and self.engine_version not in known:
            raise ValueError(
                f"engineVersion {self.engine_version!r} of {self.engine} is not known here; choose one of "
                f"{', '.join(known)}"
            )
        return self
