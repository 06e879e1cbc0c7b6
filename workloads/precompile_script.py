"""Fetches the app's code where Ray would, and runs `serve_apps.llm.precompile` from it.

Runs in a pod of the service's image: the standard library and boto3, nothing of this project until the code
is there. `workloads/precompile.py` puts it into a ConfigMap, beside `args.json` and `job.json`.
"""

from __future__ import annotations

import json
import runpy
import sys
import tempfile
import urllib.request
import zipfile
from pathlib import Path

MODULE = "serve_apps.llm.precompile"


def fetch(url: str, directory: Path) -> Path:
    """The folder with the packages of the zip at `url`: its only one, which Ray strips as well."""
    archive = directory / "code.zip"
    if url.startswith("s3://"):
        import boto3

        bucket, _, key = url.removeprefix("s3://").partition("/")
        boto3.client("s3").download_file(bucket, key, str(archive))
    else:
        urllib.request.urlretrieve(url, archive)  # noqa: S310 - the stack file's: https or s3
    unpacked = directory / "code"
    with zipfile.ZipFile(archive) as zipped:
        zipped.extractall(unpacked)
    (top,) = unpacked.iterdir()
    return top


def main(settings: Path) -> None:
    """Run the module with the settings that lie in a directory; ends with its exit code."""
    job = json.loads((settings / "job.json").read_text(encoding="utf-8"))
    if job["code_url"]:
        try:
            code = fetch(job["code_url"], Path(tempfile.mkdtemp()))
        except Exception as error:
            sys.exit(f"error: the code at {job['code_url']} cannot be fetched: {error}")
        sys.path.insert(0, str(code))
    sys.argv = [MODULE, str(settings / "args.json"), "--timeout-s", str(job["timeout_s"])]
    runpy.run_module(MODULE, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main(Path(__file__).parent)
