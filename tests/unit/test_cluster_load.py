"""What the tests on a cluster count, and the page that they fill; without a cluster."""

from __future__ import annotations

from pathlib import Path

import pytest

from client.load.record import Record
from tests.cluster.load import Row, clients
from tests.cluster.report import write_document
from tests.e2e.test_client import trivial

RESULTS = {
    "date": "2026-11-28",
    "cores": 2,
    "memory_gib": 24,
    "versions": {"Kubernetes": "v1.35.3", "Ray": "2.60.0"},
    "figures": {"first up": "45 s"},
    "rows": [{"scenario": "head pod deleted", "replicas": 2, "requests": 192, "longest_s": 3.3}],
}


def answered(wait_s: float = 1.0, **fields: object) -> Record:
    record = Record(intended_s=0.0, sent_s=0.0, done_s=wait_s, pieces=3, error=None)
    record.model, record.finish_reason = "pair", "length"
    for name, value in fields.items():
        setattr(record, name, value)
    return record


def filled(*records: Record) -> Row:
    row = Row("a scenario", replicas=2)
    row.fill(records, "pair")
    return row


def test_whole_answers_of_the_model_are_neither_lost_nor_wrong() -> None:
    row = filled(answered(1.0), answered(1.5), answered(4.0, finish_reason="stop"))
    row.expect_nothing_lost()
    assert (row.requests, row.median_s, row.longest_s) == (3, 1.5, 4.0)


@pytest.mark.parametrize(
    "fields", [{"model": "another"}, {"pieces": 0}, {"finish_reason": None}, {"finish_reason": "error"}]
)
def test_an_answer_that_is_not_what_was_asked_for_is_wrong(fields: dict[str, object]) -> None:
    row = filled(answered(), answered(**fields))
    assert (row.lost, row.wrong) == (0, 1)
    with pytest.raises(AssertionError, match="1 answered wrongly"):
        row.expect_nothing_lost()


def test_a_refusal_is_a_loss_that_is_told_apart() -> None:
    row = filled(answered(), answered(error="HTTP 503 unavailable"), answered(error="connection broken"))
    assert (row.lost, row.refused, row.wrong) == (2, 1, 0)
    with pytest.raises(AssertionError, match="of 3 requests 2 were lost"):
        row.expect_nothing_lost()


def test_a_scenario_without_a_request_proves_nothing() -> None:
    with pytest.raises(AssertionError, match="nothing was asked"):
        filled().expect_nothing_lost()


def test_clients_that_are_stopped_wait_for_what_they_asked(tmp_path: Path) -> None:
    with trivial(token_s=0.1) as base_url:
        row = Row("a server that says neither model nor reason", replicas=1)
        with clients(base_url.removesuffix("/v1"), "trivial", row, tmp_path / "out", rate=20.0):
            pass
    assert row.requests > 20
    assert (row.lost, row.wrong) == (0, row.requests)


def test_the_page_gets_the_table_and_the_versions_between_its_marks(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("before\n<!-- make test-cluster -->\nold\n<!-- end of make test-cluster -->\nafter\n")
    write_document(page, RESULTS)
    text = page.read_text()
    assert text.startswith("before\n")
    assert text.endswith("after\n")
    assert "old" not in text
    assert "| head pod deleted | 2 | 192 | 0 | 0 | 0.0, 3.3 s |  |" in text
    assert "Kubernetes 1.35.3, Ray 2.60.0. first up: 45 s." in text


def test_a_page_without_marks_is_refused(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("nothing\n")
    with pytest.raises(ValueError, match="add them where the table is to be"):
        write_document(page, RESULTS)
