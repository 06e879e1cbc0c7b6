"""Amounts have the form that Kubernetes itself gives them."""

from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from kubernetes.utils.quantity import parse_quantity

from workloads.quantities import cpu_quantity, memory_quantity


@pytest.mark.parametrize(
    ("cpus", "text"), [(1, "1"), (2.0, "2"), (1.5, "1500m"), (0.1, "100m"), (188.75, "188750m")]
)
def test_cpus_are_whole_or_in_thousandths(cpus: float, text: str) -> None:
    assert cpu_quantity(cpus) == text


@pytest.mark.parametrize(
    ("mib", "text"), [(1, "1Mi"), (3072, "3Gi"), (1536, "1536Mi"), (1048576, "1Ti"), (1049600, "1025Gi")]
)
def test_memory_has_the_largest_unit_without_a_fraction(mib: int, text: str) -> None:
    assert memory_quantity(mib) == text


@given(millis=st.integers(1, 10**6), mib=st.integers(1, 2**31))
def test_an_amount_is_the_one_that_was_given(millis: int, mib: int) -> None:
    assert parse_quantity(cpu_quantity(millis / 1000)) == Decimal(millis) / 1000
    assert parse_quantity(memory_quantity(mib)) == mib * 2**20
