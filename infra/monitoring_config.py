"""What a stack file says of monitoring."""

from __future__ import annotations

from pydantic import Field

from infra.config_model import ConfigModel


class Monitoring(ConfigModel):
    """Prometheus, Grafana and Alertmanager."""

    enabled: bool = Field(
        default=False, description="Whether they are installed, with dashboards and alerts for this stack."
    )
