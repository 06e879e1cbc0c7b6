from __future__ import annotations

import logging
import os
from pathlib import Path

import pytest

from serve_apps.auth import ApiKeys, ApiKeysError
from serve_apps.environment import API_KEYS_FILE_ENV
from serve_apps.errors import ApiError
from workloads.api_keys import hashed_keys


def keys_file(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "keys"
    path.write_text(text)
    return path


def refusal(keys: ApiKeys, header: str | None) -> ApiError:
    with pytest.raises(ApiError) as caught:
        keys.check(header)
    return caught.value


def test_every_key_of_the_file_is_valid(tmp_path: Path) -> None:
    keys = ApiKeys(keys_file(tmp_path, "# team a\nsk-a\n\n  sk-b  \r\n#sk-c\nschlüssel\n"))
    keys.check("Bearer sk-a")
    keys.check("bearer  sk-b ")
    # Headers are bytes; servers hand them over as latin-1.
    keys.check("Bearer " + "schlüssel".encode().decode("latin-1"))


@pytest.mark.parametrize(
    "header",
    [
        None,
        "",
        "Bearer",
        "Bearer ",
        "sk-a",
        "Basic sk-a",
        "Bearer sk-A",
        "Bearer sk-a sk-b",
        "Bearer sk",
        "Bearer #sk-c",
        "Bearer # team a",
        "Bearer \u20ac",
    ],
)
def test_anything_else_is_a_401(tmp_path: Path, header: str | None) -> None:
    error = refusal(ApiKeys(keys_file(tmp_path, "# team a\nsk-a\nsk-b\n#sk-c\n")), header)
    assert error.status == 401
    assert error.error.code == "invalid_api_key"
    assert error.headers == {"WWW-Authenticate": "Bearer"}


@pytest.mark.parametrize("text", ["", "\n \n", "# only a comment\n"])
def test_a_file_without_keys_is_refused_at_the_start(tmp_path: Path, text: str) -> None:
    path = keys_file(tmp_path, text)
    with pytest.raises(ApiKeysError, match=f"{path}.*{API_KEYS_FILE_ENV}.*auth: none"):
        ApiKeys(path)


def test_a_missing_file_is_refused_at_the_start(tmp_path: Path) -> None:
    with pytest.raises(ApiKeysError, match=f"{tmp_path / 'nowhere'}.*{API_KEYS_FILE_ENV}"):
        ApiKeys.from_environment({API_KEYS_FILE_ENV: str(tmp_path / "nowhere")})


@pytest.mark.parametrize("environ", [{}, {API_KEYS_FILE_ENV: ""}])
def test_a_missing_variable_is_refused_at_the_start(environ: dict[str, str]) -> None:
    with pytest.raises(ApiKeysError, match=f"{API_KEYS_FILE_ENV} is not set"):
        ApiKeys.from_environment(environ)


def test_a_new_key_works_and_a_withdrawn_one_does_not_without_a_restart(tmp_path: Path) -> None:
    keys = ApiKeys(keys_file(tmp_path, "sk-old\n"))
    keys_file(tmp_path, "sk-new-one\n")
    keys.check("Bearer sk-new-one")
    assert refusal(keys, "Bearer sk-old").status == 401


def test_a_swapped_link_is_noticed_even_with_equal_times_and_sizes(tmp_path: Path) -> None:
    # As Kubernetes does it: keys -> ..data/keys, and ..data is replaced by a rename.
    for version, key in (("v1", "sk-1"), ("v2", "sk-2")):
        (tmp_path / version).mkdir()
        (tmp_path / version / "keys").write_text(key)
        os.utime(tmp_path / version / "keys", (1_000_000, 1_000_000))
    (tmp_path / "..data").symlink_to("v1")
    (tmp_path / "keys").symlink_to("..data/keys")
    keys = ApiKeys(tmp_path / "keys")
    keys.check("Bearer sk-1")

    (tmp_path / "..new").symlink_to("v2")
    (tmp_path / "..new").rename(tmp_path / "..data")
    keys.check("Bearer sk-2")
    assert refusal(keys, "Bearer sk-1").status == 401


@pytest.mark.parametrize("damage", [Path.unlink, lambda path: path.write_text("")])
def test_a_file_that_loses_its_keys_lets_nobody_in_until_it_has_some_again(
    tmp_path: Path, damage, caplog: pytest.LogCaptureFixture
) -> None:
    path = keys_file(tmp_path, "sk-a\n")
    keys = ApiKeys(path)
    damage(path)
    assert refusal(keys, "Bearer sk-a").status == 401
    assert str(path) in caplog.text
    keys_file(tmp_path, "sk-b\nsk-a\n")
    keys.check("Bearer sk-a")


def test_keys_are_neither_logged_nor_shown(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    keys = ApiKeys(keys_file(tmp_path, "sk-old\n"))
    keys_file(tmp_path, "sk-secret\n")
    with caplog.at_level(logging.DEBUG):
        error = refusal(keys, "Bearer sk-guess")
    assert caplog.messages
    for text in (caplog.text, str(error), repr(vars(keys))):
        assert "sk-" not in text


def test_a_hashed_key_opens_for_the_key_and_not_for_the_hash(tmp_path: Path) -> None:
    stored = hashed_keys("sk-a\n")
    assert "sk-a" not in stored
    keys = ApiKeys(keys_file(tmp_path, stored))
    keys.check("Bearer sk-a")
    assert refusal(keys, f"Bearer {stored.strip()}").status == 401


def test_hashes_stay_hashes_and_plain_keys_become_one(tmp_path: Path) -> None:
    once = hashed_keys("sk-a\nsk-b\n")
    assert hashed_keys(once) == once
    keys = ApiKeys(keys_file(tmp_path, once))
    assert keys.check("Bearer sk-a") != keys.check("Bearer sk-b")


def test_a_cut_hash_opens_nothing_and_is_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    keys = ApiKeys(keys_file(tmp_path, "sk-a\nsha256:abc\n"))
    assert "64 hexadecimal digits" in caplog.text
    keys.check("Bearer sk-a")
    assert refusal(keys, "Bearer sha256:abc").status == 401
