"""An app's code as one zip whose name changes when, and only when, the code does.

Ray unpacks it as the app's working directory and drops the top folder when there is exactly one
(`unzip_package` in ray/_private/runtime_env/packaging.py, Ray 2.60), so the packages lie one level down.
"""

from __future__ import annotations

import hashlib
import io
import tempfile
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from infra.checkout import ROOT, is_left_behind

# Relative, so that the path that the engine is given is the same in every checkout.
_ARCHIVES = Path(".cache") / "code"

_PACKAGE = "serve_apps"
_TOP_FOLDER = "code"
# The oldest time that a zip can hold: a checkout's own times differ from machine to machine.
_TIMESTAMP = (1980, 1, 1, 0, 0, 0)
_FILE_MODE = 0o100644 << 16
_DIGEST_CHARS = 16


@dataclass(frozen=True)
class CodeArchive:
    """The zip of one app, written to `path`."""

    app: str
    digest: str
    path: Path

    @property
    def key(self) -> str:
        """Where it lies in a bucket."""
        return f"code/{self.path.name}"


def build(app: str, *, root: Path = ROOT, directory: Path = _ARCHIVES) -> CodeArchive:
    """Write the zip of `serve_apps/<app>` into `directory`, unless it is there already.

    Raises ValueError if there is no such app.
    """
    content = zip_of(app, root)
    digest = hashlib.sha256(content).hexdigest()[:_DIGEST_CHARS]
    path = directory / f"{app}-{digest}.zip"
    if not path.is_file():
        _write(path, content)
    return CodeArchive(app, digest, path)


def zip_of(app: str, root: Path) -> bytes:
    """The app's package, the modules it shares with other apps, and nothing else.

    The same files give the same bytes on every machine. Raises ValueError if there is no such app.
    """
    buffer = io.BytesIO()
    # Stored, not deflated: what deflate yields depends on the zlib that Python was built with.
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
        for name in sorted(_files(app, root)):
            entry = zipfile.ZipInfo(f"{_TOP_FOLDER}/{name}", _TIMESTAMP)
            entry.create_system = 3
            entry.external_attr = _FILE_MODE
            archive.writestr(entry, (root / name).read_bytes())
    return buffer.getvalue()


def _files(app: str, root: Path) -> Iterator[str]:
    package = root / _PACKAGE
    if not (package / app / "__init__.py").is_file():
        raise ValueError(f"there is no app {app!r}: {package / app} is not a package")
    for path in [*package.glob("*.py"), *(package / app).rglob("*")]:
        relative = path.relative_to(root)
        if path.is_file() and not is_left_behind(relative):
            yield relative.as_posix()


def _write(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    # Under a name of its own first: another evaluation may want the same archive now.
    with tempfile.NamedTemporaryFile(dir=path.parent, delete=False) as file:
        file.write(content)
    Path(file.name).replace(path)
