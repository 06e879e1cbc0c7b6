"""What a stack file says of monitoring."""

from __future__ import annotations

from typing import Any

from pydantic import Field, model_validator

from infra.config_model import ConfigModel


class Monitoring(ConfigModel):
    """Prometheus, Grafana and Alertmanager."""

    enabled: bool = Field(
        default=False, description="Whether they are installed, with dashboards and alerts for this stack."
    )
    chart_values: dict[str, Any] = Field(
        default_factory=dict[str, Any],
        description="Values of the chart kube-prometheus-stack that go before this project's: receivers of "
        "alerts, a mirror of its images, a volume for Prometheus.",
    )

    @model_validator(mode="after")
    def _values_need_the_chart(self) -> Monitoring:
        if self.chart_values and not self.enabled:
            raise ValueError("chartValues have no effect with enabled: false; remove them")
        return self
