"""The options that say which stack a command is about."""

from __future__ import annotations

import argparse
from pathlib import Path

from offline.stack_files import find_project, stack_name_of

DEFAULT_STACK = "local"


def add_stack_options(parser: argparse.ArgumentParser) -> None:
    """Add `--stack` or `--stack-file`, and `--project-dir`."""
    which = parser.add_mutually_exclusive_group()
    which.add_argument(
        "--stack", default=DEFAULT_STACK, metavar="NAME", help="stack to look at (default: %(default)s)"
    )
    which.add_argument(
        "--stack-file",
        type=Path,
        metavar="FILE",
        help="a file Pulumi.<stack>.yaml outside the project, as pulumi --config-file takes it",
    )
    parser.add_argument(
        "--project-dir",
        type=Path,
        metavar="DIR",
        help="directory of Pulumi.yaml (default: the nearest one from here upwards)",
    )


def stack_of(options: argparse.Namespace) -> str:
    """Name of the chosen stack. Raises `OfflineError`."""
    return stack_name_of(options.stack_file) if options.stack_file else options.stack


def project_dir_of(options: argparse.Namespace) -> Path:
    """The chosen project, or the nearest from here upwards. Raises `OfflineError`."""
    return options.project_dir.resolve() if options.project_dir else find_project(Path.cwd())
