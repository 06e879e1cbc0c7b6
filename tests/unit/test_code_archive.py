from __future__ import annotations

import logging
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from ray._private.runtime_env.packaging import unzip_package

from infra import code_archive
from infra.code_archive import CodeArchive

CHECKOUT = Path(__file__).resolve().parents[2]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A checkout with two apps and a module that they share."""
    files = {
        "__init__.py": "",
        "shared.py": "A = 1\n",
        "chat/__init__.py": "",
        "chat/app.py": "from serve_apps.shared import A\n",
        "chat/templates/hello.jinja": "hello",
        "other/__init__.py": "",
        "other/app.py": "",
    }
    for name, text in files.items():
        path = tmp_path / "checkout" / "serve_apps" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return tmp_path / "checkout"


def build(root: Path, app: str = "chat") -> CodeArchive:
    return code_archive.build(app, root=root, directory=root.parent / "archives")


def names(archive: CodeArchive) -> list[str]:
    return zipfile.ZipFile(archive.path).namelist()


def test_the_archive_holds_the_app_and_what_it_shares_under_one_folder(root: Path) -> None:
    assert names(build(root)) == [
        "code/serve_apps/__init__.py",
        "code/serve_apps/chat/__init__.py",
        "code/serve_apps/chat/app.py",
        "code/serve_apps/chat/templates/hello.jinja",
        "code/serve_apps/shared.py",
    ]


def test_times_modes_and_the_order_of_creation_do_not_change_the_archive(root: Path, tmp_path: Path) -> None:
    first = build(root)
    copy = tmp_path / "another" / "checkout"
    for path in sorted((path for path in root.rglob("*") if path.is_file()), reverse=True):
        twin = copy / path.relative_to(root)
        twin.parent.mkdir(parents=True, exist_ok=True)
        twin.write_bytes(path.read_bytes())
        twin.chmod(0o755)
        os.utime(twin, (1_000_000_000, 1_000_000_000))
    second = build(copy)
    assert second.path != first.path
    assert second.key == first.key
    assert second.path.read_bytes() == first.path.read_bytes()


@pytest.mark.parametrize("name", ["chat/app.py", "shared.py", "__init__.py", "chat/templates/hello.jinja"])
def test_a_change_of_the_apps_files_changes_its_key(root: Path, name: str) -> None:
    before = build(root)
    (root / "serve_apps" / name).write_text("B = 2\n")
    assert build(root).key != before.key


def test_a_new_and_a_renamed_file_change_the_key(root: Path) -> None:
    keys = {build(root).key}
    (root / "serve_apps" / "chat" / "empty.py").touch()
    keys.add(build(root).key)
    (root / "serve_apps" / "chat" / "empty.py").rename(root / "serve_apps" / "chat" / "void.py")
    keys.add(build(root).key)
    assert len(keys) == 3


@pytest.mark.parametrize(
    "name",
    [
        "other/app.py",
        "chat/__pycache__/app.cpython-311.pyc",
        "chat/.app.py.swp",
        "chat/.ipynb_checkpoints/app.py",
        "../README.md",
    ],
)
def test_a_file_that_is_not_the_apps_does_not_change_its_key(root: Path, name: str) -> None:
    before = build(root).key
    path = root / "serve_apps" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("changed\n")
    assert build(root).key == before


def test_an_archive_that_is_there_is_not_written_again(root: Path) -> None:
    first = build(root).path.stat()
    assert build(root).path.stat() == first
    assert [path.suffix for path in (root.parent / "archives").iterdir()] == [".zip"]


def test_the_key_names_the_app_and_the_content(root: Path) -> None:
    archive = build(root)
    assert archive.key == f"code/chat-{archive.digest}.zip"
    assert len(archive.digest) == 16


def test_an_app_that_does_not_exist_is_refused(root: Path) -> None:
    with pytest.raises(ValueError, match="there is no app 'caht'"):
        build(root, "caht")


def test_ray_unpacks_the_llm_app_so_that_it_can_be_imported(tmp_path: Path) -> None:
    archive = code_archive.build("llm", root=CHECKOUT, directory=tmp_path)
    unpacked = tmp_path / "working_dir"
    unzip_package(
        str(archive.path),
        str(unpacked),
        remove_top_level_directory=True,
        unlink_zip=False,
        logger=logging.getLogger(__name__),
    )
    # What Ray does with a working directory: it is the current one, and first on the path.
    script = "import serve_apps.llm.args as module; print(module.__file__)"
    ran = subprocess.run(
        [sys.executable, "-c", script],
        cwd=unpacked,
        env={key: value for key, value in os.environ.items() if key != "PYTHONPATH"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert ran.stdout.strip() == str(unpacked / "serve_apps" / "llm" / "args.py")


def test_the_llm_app_imports_nothing_that_its_archive_lacks(tmp_path: Path) -> None:
    archive = code_archive.build("llm", root=CHECKOUT, directory=tmp_path)
    modules = {name.removeprefix("code/") for name in names(archive)}
    for path in (CHECKOUT / "serve_apps" / "llm").rglob("*.py"):
        assert path.relative_to(CHECKOUT).as_posix() in modules
    for line in (line for name in modules if name.endswith(".py") for line in _imports(name)):
        package = line.split()[1].replace(".", "/")
        assert {f"{package}.py", f"{package}/__init__.py"} & modules, line


def _imports(name: str) -> list[str]:
    lines = (CHECKOUT / name).read_text().splitlines()
    return [line for line in lines if line.lstrip().startswith(("from serve_apps", "import serve_apps"))]
