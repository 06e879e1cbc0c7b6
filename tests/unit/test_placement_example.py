"""The worked example of docs/placement.md is what the program says."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from infra.config import StackConfig
from infra.config_errors import ConfigError
from infra.instances import HBM_BYTES
from infra.service_config import LlmService
from offline.cost_table import cost_table
from workloads.capacity import Demand, check_capacity
from workloads.cost import cost_per_hour
from workloads.fit import Fit, replica_fit
from workloads.placement import place

PAGE = (Path(__file__).resolve().parents[2] / "docs/placement.md").read_text()
EXAMPLE = PAGE.split("\n## Example\n")[1].split("\n## ")[0]
STACK, FIT, REFUSAL, COST = re.findall(r"^```(?:yaml)?\n(.*?)^```$", EXAMPLE, re.DOTALL | re.MULTILINE)


def stack(**changes: Any) -> StackConfig:
    keys = yaml.safe_load(STACK)
    keys["services"]["llama"] |= changes
    return StackConfig.model_validate(keys)


def fit(config: StackConfig) -> Fit:
    service = config.services["llama"]
    assert isinstance(service, LlmService)
    return replica_fit("llama", service, place("llama", service))


def demands(config: StackConfig) -> list[Demand]:
    return [Demand(name, service, place(name, service)) for name, service in config.services.items()]


def test_the_example_fits_as_the_page_says() -> None:
    config = stack()
    memory = fit(config).memory
    assert memory is not None
    assert memory.total < HBM_BYTES
    (note,) = fit(config).notes
    assert f"{note}\n" == FIT
    assert config.aws is not None
    assert check_capacity(config.aws, demands(config)) == []


def test_the_example_is_refused_as_the_page_says() -> None:
    with pytest.raises(ConfigError) as refused:
        fit(stack(slots=256, maxModelLen=8192))
    assert f"{refused.value.findings[0]}\n" == REFUSAL


def test_the_example_costs_what_the_page_says() -> None:
    config = stack()
    cost = cost_per_hour(config, demands(config))
    assert cost is not None
    assert "".join(f"{line.rstrip()}\n" for line in cost_table(cost)) == COST
