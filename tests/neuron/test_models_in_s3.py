"""Models and compiled graphs in a bucket, over a real S3 API."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from serve_apps import model_bucket
from serve_apps.environment import MODEL_CACHE_ENV
from serve_apps.model_files import ModelError
from serve_apps.models import resolve, resolve_tokenizer
from tests.neuron.s3 import s3_server
from tests.neuron.test_neuronx_runner import loaded

BUCKET, PREFIX = "weights", "models/tiny"
MODEL = f"s3://{BUCKET}/{PREFIX}"
FILES = {
    "config.json": b"{}",
    "tokenizer.json": b'{"tokenizer": 1}',
    "chat_template.jinja": b"{{ messages }}",
    "model-00001.safetensors": b"first",
    "model-00002.safetensors": b"second",
}
NOT_FETCHED = {"README.md": b"words", "original/consolidated.00.pth": b"copy", "pytorch_model.bin": b"copy"}


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv(MODEL_CACHE_ENV, str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture(scope="module")
def _server() -> Iterator[Any]:
    with s3_server(BUCKET) as client:
        yield client


@pytest.fixture
def s3(_server: Any) -> Any:
    for entry in _server.list_objects_v2(Bucket=BUCKET).get("Contents", []):
        _server.delete_object(Bucket=BUCKET, Key=entry["Key"])
    for name, content in {**FILES, **NOT_FETCHED}.items():
        _server.put_object(Bucket=BUCKET, Key=f"{PREFIX}/{name}", Body=content)
    return _server


def contents(directory: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in directory.iterdir()}


def test_a_model_is_downloaded_once(cache: Path, s3: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    first = resolve(MODEL)
    assert contents(first) == FILES
    assert first.parent == cache
    monkeypatch.setattr(model_bucket, "_download", None)
    assert resolve(f"{MODEL}/") == first


def test_a_tokenizer_is_downloaded_without_the_weights(cache: Path, s3: Any) -> None:
    directory = resolve_tokenizer(MODEL)
    assert set(contents(directory)) == {"config.json", "tokenizer.json", "chat_template.jinja"}
    assert contents(resolve(MODEL)) == FILES


def test_other_content_under_the_same_name_is_another_model(cache: Path, s3: Any) -> None:
    first = resolve(MODEL)
    s3.put_object(Bucket=BUCKET, Key=f"{PREFIX}/model-00002.safetensors", Body=b"changed")
    second = resolve(MODEL)
    assert second != first
    assert contents(second)["model-00002.safetensors"] == b"changed"
    assert contents(first) == FILES


def test_a_download_that_breaks_off_is_resumed_and_never_used(
    cache: Path, s3: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    s3.put_object(Bucket=BUCKET, Key=f"{PREFIX}/model-00002.safetensors", Body=b"gone soon")
    listed = model_bucket._listed

    def vanish(*given: Any, **named: Any) -> Any:
        found = listed(*given, **named)
        s3.delete_object(Bucket=BUCKET, Key=f"{PREFIX}/model-00002.safetensors")
        return found

    with monkeypatch.context() as patch:
        patch.setattr(model_bucket, "_listed", vanish)
        with pytest.raises(ModelError, match="vanished during the download"):
            resolve(MODEL)
    assert not [path for path in cache.iterdir() if not path.name.startswith(".")]
    s3.put_object(Bucket=BUCKET, Key=f"{PREFIX}/model-00002.safetensors", Body=b"gone soon")
    (partial,) = cache.glob(".*.partial")
    kept = (partial / "model-00001.safetensors").stat().st_ino
    assert (resolve(MODEL) / "model-00001.safetensors").stat().st_ino == kept
    assert not list(cache.glob(".*.partial"))


def test_replicas_that_start_together_download_once(
    cache: Path, s3: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    downloads: list[Any] = []
    original = model_bucket._download

    def counted(*given: Any) -> None:
        downloads.append(given)
        original(*given)

    monkeypatch.setattr(model_bucket, "_download", counted)
    with ThreadPoolExecutor(4) as threads:
        directories = set(threads.map(resolve, [MODEL] * 4))
    assert len(directories) == len(downloads) == 1


@pytest.mark.parametrize(
    ("model", "words"),
    [
        (f"s3://{BUCKET}/no/such/model", r"no config\.json under that prefix"),
        ("s3://no-such-bucket/models/tiny", "there is no such bucket"),
        ("s3://weights", "name a bucket and a prefix"),
        ("s3:///tiny", "name a bucket and a prefix"),
    ],
)
def test_what_is_not_there_is_named(cache: Path, s3: Any, model: str, words: str) -> None:
    with pytest.raises(ModelError, match=f"model '{model}': .*{words}"):
        resolve(model)
    assert not cache.exists()


def test_weights_that_are_missing_are_named(cache: Path, s3: Any) -> None:
    for name in ("model-00001.safetensors", "model-00002.safetensors"):
        s3.delete_object(Bucket=BUCKET, Key=f"{PREFIX}/{name}")
    with pytest.raises(ModelError, match="holds no safetensors weights"):
        resolve(MODEL)


def test_an_endpoint_that_is_not_there_is_an_error_with_a_way_out(
    cache: Path, s3: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", "http://127.0.0.1:9")
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    with pytest.raises(ModelError, match=r"S3 cannot be reached .*check credentials, region and network"):
        resolve(MODEL)


def test_a_disk_that_is_too_small_is_noticed_before_the_download(
    cache: Path, s3: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    full = type("Usage", (), {"free": 10})()
    monkeypatch.setattr(model_bucket.shutil, "disk_usage", lambda _: full)
    with pytest.raises(ModelError, match=r"needs .* GiB in .*free; make room"):
        resolve(MODEL)


def test_graphs_in_the_bucket_are_found_by_the_next_replica(
    emulator: Any,
    s3: Any,
    tiny_llama: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO, logger="serve_apps")
    monkeypatch.setenv("NEURON_COMPILE_CACHE_URL", f"s3://{BUCKET}/neuron-compile-cache")
    loaded(tiny_llama)
    loaded(tiny_llama)
    words = f"compile cache s3://{BUCKET}/neuron-compile-cache: "
    assert [line.split(";")[0] for line in caplog.messages if line.startswith(words)] == [
        f"{words}miss, 3 graphs compiled",
        f"{words}hit",
    ]


def test_a_cache_that_cannot_be_listed_does_not_stop_a_start(
    emulator: Any, tiny_llama: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, logger="serve_apps")
    from serve_apps.llm.runners.neuronx_cache import CompileCache

    def refused(_: Any) -> Any:
        raise PermissionError("no listing")

    monkeypatch.setattr(CompileCache, "_on_disk", refused)
    loaded(tiny_llama)
    assert "cannot be listed: no listing" in caplog.text
    assert ": unknown; 2 prefill and 1 decode graphs" in caplog.text
