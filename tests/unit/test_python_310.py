"""serve_apps runs on Python 3.10, in the Neuron image, where the tests do not."""

from __future__ import annotations

import ast
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SOURCES = sorted((ROOT / "serve_apps").rglob("*.py"))

# What came with Python 3.11 to 3.13 (https://docs.python.org/3/whatsnew/3.11.html and its successors, looked
# up 2026-11), as far as a service might want it.
NEW_MODULES = {"tomllib", "wsgiref.types", "pathlib.types", "compression"}
NEW_NAMES = {
    "asyncio": {"timeout", "timeout_at", "TaskGroup", "Runner", "Barrier", "QueueShutDown"},
    "typing": {
        *("Self", "Never", "assert_never", "assert_type", "reveal_type", "LiteralString", "Unpack"),
        *("Required", "NotRequired", "TypeVarTuple", "dataclass_transform", "override", "ReadOnly", "TypeIs"),
    },
    "datetime": {"UTC"},
    "enum": {"StrEnum", "ReprEnum", "EnumCheck", "verify", "member", "nonmember", "global_enum"},
    "contextlib": {"chdir"},
    "itertools": {"batched"},
    "hashlib": {"file_digest"},
    "math": {"cbrt", "exp2", "sumprod", "fma"},
    "operator": {"call"},
    "inspect": {"getmembers_static", "BufferFlags"},
    "builtins": {"ExceptionGroup", "BaseExceptionGroup", "PythonFinalizationError"},
    "collections.abc": {"Buffer"},
    "logging": {"getLevelNamesMapping", "getHandlerByName"},
    "warnings": {"deprecated"},
    "copy": {"replace"},
    "queue": {"ShutDown"},
}


def too_new(source: str) -> list[str]:
    found: list[str] = []
    for node in ast.walk(ast.parse(source, feature_version=(3, 10))):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names if alias.name in NEW_MODULES]
        elif isinstance(node, ast.ImportFrom):
            names = NEW_NAMES.get(node.module or "", set())
            found += [f"{node.module}.{alias.name}" for alias in node.names if alias.name in names]
            found += [node.module or ""] * (node.module in NEW_MODULES)
        elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            if node.attr in NEW_NAMES.get(node.value.id, set()):
                found.append(f"{node.value.id}.{node.attr}")
        elif isinstance(node, ast.Name) and node.id in NEW_NAMES["builtins"]:
            found.append(node.id)
    return found


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_module_uses_nothing_newer(path: Path) -> None:
    assert not too_new(path.read_text())


@pytest.mark.parametrize(
    "source",
    [
        "import tomllib",
        "from typing import Self",
        "import asyncio\nasyncio.timeout(1)",
        "raise ExceptionGroup('many', [])",
        "from datetime import UTC",
    ],
)
def test_what_is_newer_would_be_noticed(source: str) -> None:
    assert too_new(source)


def test_syntax_that_is_newer_would_be_noticed() -> None:
    with pytest.raises(SyntaxError):
        too_new("try:\n    pass\nexcept* ValueError:\n    pass")


def test_python_3_10_itself_reads_every_module(tmp_path: Path) -> None:
    python = shutil.which("python3.10")
    if python is None or subprocess.run([python, "-c", ""], capture_output=True).returncode:
        pytest.skip("no Python 3.10 on PATH; the tests above read its grammar")
    target = tmp_path / "serve_apps"
    shutil.copytree(ROOT / "serve_apps", target, ignore=shutil.ignore_patterns("__pycache__"))
    subprocess.run([python, "-m", "compileall", "-q", str(target)], check=True)
