"""What a stack file says of monitoring: in the cluster, and by AWS."""

from __future__ import annotations

import re
from typing import Any

from pydantic import Field, field_validator, model_validator

from infra.config_model import ConfigModel

_MAIL = re.compile(r"[^@\s/:]+@[^@\s/:]+\.[^@\s/:]+")
_URL = re.compile(r"https://[^\s/]+\.[^\s/]+(/\S*)?")


class Monitoring(ConfigModel):
    """Prometheus, Grafana and Alertmanager."""

    enabled: bool = Field(
        default=False, description="Whether they are installed, with dashboards and alerts for this stack."
    )
    chart_values: dict[str, Any] = Field(
        default_factory=dict[str, Any],
        description="Values of the chart kube-prometheus-stack that go before this project's: receivers of "
        "alerts, a mirror of its images, a volume for Prometheus.",
        examples=[{"grafana": {"replicas": 1}}],
    )

    @model_validator(mode="after")
    def _values_need_the_chart(self) -> Monitoring:
        if self.chart_values and not self.enabled:
            raise ValueError("chartValues have no effect without enabled: true; add it, or remove them")
        return self


class Alarms(ConfigModel):
    """CloudWatch alarms, for what no metric of the cluster shows."""

    notify: list[str] = Field(
        default_factory=list[str],
        description="Who is told of a failover of ElastiCache and of a certificate that is about to expire: "
        "e-mail addresses, which have to confirm, and `https://` URLs. They stand in the stack's state as "
        "they are. None: there are no alarms.",
        examples=[["oncall@example.com"]],
    )

    @field_validator("notify")
    @classmethod
    def _addresses_can_be_notified(cls, notify: list[str]) -> list[str]:
        for address in notify:
            if not (_MAIL.fullmatch(address) or _URL.fullmatch(address)):
                raise ValueError(
                    f"{address!r} is no e-mail address and no https:// URL; write one like "
                    "oncall@example.com or https://events.example.com/alarm"
                )
        if len(set(notify)) < len(notify):
            raise ValueError(f"{notify} names an address twice; name each once")
        return notify
