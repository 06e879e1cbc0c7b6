"""`serve_apps.models`: names of models, and the conversion that happens once."""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from serve_apps import model_package, models
from serve_apps.environment import MODEL_CACHE_ENV

PACKAGE = "tiny-model"
REFERENCE = f"package:{PACKAGE}"
FORK = multiprocessing.get_context("fork")  # children inherit the replaced conversion


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    directory = tmp_path / "cache"
    monkeypatch.setenv(MODEL_CACHE_ENV, str(directory))
    return directory


def install_package(site: Path, version: str, gguf_names: list[str]) -> None:
    """An installed distribution as `importlib.metadata` sees one, whose module must not be imported."""
    module = site / "tiny_model"
    module.mkdir(parents=True, exist_ok=True)
    (module / "__init__.py").write_text("raise RuntimeError('imported')")
    for name in gguf_names:
        (module / name).write_bytes(b"GGUF")
    info = site / f"tiny_model-{version}.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {PACKAGE}\nVersion: {version}\n")
    files = ["tiny_model/__init__.py", *(f"tiny_model/{name}" for name in gguf_names)]
    (info / "RECORD").write_text("".join(f"{file},,\n" for file in files))


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    directory = tmp_path / "site"
    directory.mkdir()
    monkeypatch.syspath_prepend(str(directory))
    return directory


@pytest.fixture
def conversions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Replaces the conversion by one that writes a config; the returned file gets a line for each."""
    log = tmp_path / "conversions"
    log.touch()

    def convert(gguf: Path, out: Path) -> None:
        with log.open("a") as file:
            file.write(f"{gguf.name}\n")
        out.mkdir()
        (out / "config.json").write_text("{}")

    monkeypatch.setattr(model_package, "_convert", convert)
    return log


def test_a_local_directory_is_used_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    assert models.resolve(str(tmp_path)) == tmp_path


def test_a_directory_without_a_config_is_refused(tmp_path: Path) -> None:
    with pytest.raises(models.ModelError, match=r"no config\.json"):
        models.resolve(str(tmp_path))


@pytest.mark.parametrize("name", ["/no/such/directory", "./missing", "~/missing-model"])
def test_a_missing_directory_is_not_looked_up_on_the_hub(name: str) -> None:
    with pytest.raises(models.ModelError, match=f"{name}.*no such directory"):
        models.resolve(name)


def test_a_package_is_converted_once(cache: Path, site: Path, conversions: Path) -> None:
    install_package(site, "1.0", ["weights.gguf"])
    first = models.resolve(REFERENCE)
    assert first == cache / f"tiny-model-1.0-r{model_package.CONVERTER_REVISION}"
    assert models.resolve(REFERENCE) == first
    assert conversions.read_text() == "weights.gguf\n"


def test_a_new_version_of_the_package_is_converted_again(cache: Path, site: Path, conversions: Path) -> None:
    install_package(site, "1.0", ["weights.gguf"])
    first = models.resolve(REFERENCE)
    (site / "tiny_model-1.0.dist-info").rename(site / "tiny_model-2.0.dist-info")
    metadata = site / "tiny_model-2.0.dist-info" / "METADATA"
    metadata.write_text(metadata.read_text().replace("1.0", "2.0"))
    assert models.resolve(REFERENCE) != first
    assert conversions.read_text().count("\n") == 2


def test_processes_that_start_together_convert_once(cache: Path, site: Path, conversions: Path) -> None:
    install_package(site, "1.0", ["weights.gguf"])
    processes = [FORK.Process(target=models.resolve, args=(REFERENCE,)) for _ in range(6)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
    assert [process.exitcode for process in processes] == [0] * 6
    assert conversions.read_text() == "weights.gguf\n"


def test_a_conversion_that_is_killed_leaves_nothing_that_could_be_used(
    cache: Path, site: Path, conversions: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install_package(site, "1.0", ["weights.gguf"])

    def die_half_way(gguf: Path, out: Path) -> None:
        out.mkdir()
        (out / "model.safetensors").write_bytes(b"half")
        os.kill(os.getpid(), signal.SIGKILL)

    with monkeypatch.context() as patch:
        patch.setattr(model_package, "_convert", die_half_way)
        process = FORK.Process(target=models.resolve, args=(REFERENCE,))
        process.start()
        process.join(60)
    assert process.exitcode == -signal.SIGKILL
    assert not [path for path in cache.iterdir() if not path.name.startswith(".")]

    directory = models.resolve(REFERENCE)
    assert [path.name for path in directory.iterdir()] == ["config.json"]
    assert not list(cache.glob(".*.partial"))


def test_a_conversion_that_fails_names_the_file_and_leaves_nothing(
    cache: Path, site: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    install_package(site, "1.0", ["weights.gguf"])  # four bytes, so the real conversion refuses them
    assert models.main(["prepare", REFERENCE]) == 2
    message = capsys.readouterr().err
    assert "weights.gguf" in message
    assert REFERENCE in message
    assert not [path for path in cache.iterdir() if not path.name.endswith(".lock")]


@pytest.mark.parametrize("name", ["package:no-such-package", "package:", "package:../etc"])
def test_a_missing_package_is_named_with_the_way_to_install_it(name: str, cache: Path) -> None:
    with pytest.raises(models.ModelError, match=r"is not installed; install it with `pip install"):
        models.resolve(name)


@pytest.mark.parametrize("gguf_names", [[], ["a.gguf", "b.gguf"]])
def test_a_package_without_exactly_one_gguf_is_refused(
    gguf_names: list[str], cache: Path, site: Path
) -> None:
    install_package(site, "1.0", gguf_names)
    with pytest.raises(models.ModelError, match=f"ships {len(gguf_names)} GGUF files"):
        models.resolve(REFERENCE)


def test_a_deleted_gguf_is_reported_as_a_broken_installation(cache: Path, site: Path) -> None:
    install_package(site, "1.0", ["weights.gguf"])
    (site / "tiny_model" / "weights.gguf").unlink()
    with pytest.raises(models.ModelError, match="force-reinstall"):
        models.resolve(REFERENCE)


@pytest.mark.parametrize("name", ["a/b/c", "bad name"])
def test_a_name_of_no_known_kind_is_refused(name: str) -> None:
    with pytest.raises(models.ModelError, match="neither a directory"):
        models.resolve(name)


def test_offline_mode_is_named_as_the_reason(tmp_path: Path) -> None:
    # A process of its own, because the Hub client reads these variables when it is imported.
    done = subprocess.run(
        [sys.executable, "-m", "serve_apps.models", "prepare", "some-org/some-model"],
        env={**os.environ, "HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 2
    assert "'some-org/some-model'" in done.stderr
    assert "HF_HUB_OFFLINE is set: unset it" in done.stderr


def test_the_converted_tokenizer_loads_without_gguf(model_dir: Path) -> None:
    script = (
        "import sys; sys.modules['gguf'] = None\n"
        "from transformers import AutoTokenizer, GenerationConfig\n"
        "directory = sys.argv[1]\n"
        "tokenizer = AutoTokenizer.from_pretrained(directory)\n"
        "print(tokenizer.decode(tokenizer.encode('Where is Paris?')))\n"
        "print(tokenizer.convert_ids_to_tokens(GenerationConfig.from_pretrained(directory).eos_token_id))\n"
        "print('<|im_start|>' in tokenizer.chat_template)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, str(model_dir)], capture_output=True, text=True, timeout=120
    )
    assert done.stdout.splitlines() == ["Where is Paris?", "<|im_end|>", "True"], done.stderr


def test_an_unknown_tiny_model_is_refused_with_the_one_there_is() -> None:
    with pytest.raises(models.ModelError, match=r"'tiny:llm': .*'tiny:stable-diffusion'"):
        models.resolve_pipeline("tiny:llm")


def test_a_cache_that_cannot_be_written_is_named(cache: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cache.write_text("a file where the cache should be")
    assert models.main(["prepare", "--pipeline", "tiny:stable-diffusion"]) == 2
    assert f"cannot be kept in {cache}" in capsys.readouterr().err
