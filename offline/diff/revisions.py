"""Git revisions of a project as directories: `checkout` gives one, and takes it away again."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from offline.errors import OfflineError

# A revision is checked out for reading alone: none of the repository's hooks is to run.
_WITHOUT_HOOKS = ("-c", "core.hooksPath=/dev/null", "-c", "advice.detachedHead=false")


@dataclass(frozen=True)
class Revision:
    """A commit of a repository, under the name that the user gave it; no commit means the work tree."""

    name: str
    commit: str | None

    def __str__(self) -> str:
        if self.commit is None:
            return "the work tree"
        short = self.commit[:12]
        return short if self.commit.startswith(self.name) else f"{self.name} ({short})"


@dataclass(frozen=True)
class Repository:
    """The repository that a project lies in; `prefix` is the project's place in it."""

    root: Path
    prefix: Path

    @classmethod
    def of(cls, project_dir: Path) -> Repository:
        """The repository around a directory. Raises `OfflineError` where there is none, or no git."""
        if shutil.which("git") is None:
            raise OfflineError("git is not on PATH; install it: two revisions are compared")
        answer = _git(project_dir, "rev-parse", "--show-toplevel")
        if answer.returncode != 0:
            raise OfflineError(f"{project_dir} is not in a git repository: {_reason(answer)}")
        root = Path(answer.stdout.strip()).resolve()
        return cls(root, project_dir.resolve().relative_to(root))

    def resolve(self, name: str) -> Revision:
        """The commit that a revision names. Raises `OfflineError` with what to do about it."""
        # `--end-of-options`, because a branch may be called `--help`.
        names = "--verify", "--quiet", "--end-of-options", f"{name}^{{commit}}"
        answer = _git(self.root, "rev-parse", *names)
        if answer.returncode == 0:
            return Revision(name, answer.stdout.strip())
        shallow = _git(self.root, "rev-parse", "--is-shallow-repository").stdout.strip() == "true"
        way_out = (
            "this clone is shallow: fetch it with `git fetch --depth=1 origin REVISION`, or the whole "
            "history with `git fetch --unshallow`; in GitHub Actions, actions/checkout with fetch-depth: 0"
            if shallow
            else "`git branch --all` and `git log` show what there is; a branch of a remote that was never "
            "fetched needs `git fetch origin BRANCH`"
        )
        raise OfflineError(f"revision {name!r} names no commit of {self.root}; {way_out}")

    @contextmanager
    def checkout(self, revision: Revision) -> Generator[Path]:
        """The project's directory at a revision, in a worktree of its own that goes when the context ends.

        The work tree itself is used as it is, with all that is not committed.
        """
        if revision.commit is None:
            yield self.root / self.prefix
            return
        with tempfile.TemporaryDirectory(prefix="neuron-serve-diff-") as directory:
            worktree = Path(directory) / "worktree"
            arguments = "--detach", str(worktree), revision.commit
            added = _git(self.root, *_WITHOUT_HOOKS, "worktree", "add", *arguments)
            try:
                if added.returncode != 0:
                    raise OfflineError(f"{revision} cannot be checked out: {_reason(added)}")
                yield worktree / self.prefix
            finally:
                _git(self.root, "worktree", "remove", "--force", str(worktree))
                # Without the directory the entry of a worktree that was half made goes as well.
                shutil.rmtree(worktree, ignore_errors=True)
                _git(self.root, "worktree", "prune")


def _git(directory: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    # In a session of its own: Ctrl-C must not end the clean-up half-way.
    return subprocess.run(
        ["git", "-C", str(directory), *arguments],
        capture_output=True,
        text=True,
        check=False,
        start_new_session=True,
    )


def _reason(answer: subprocess.CompletedProcess[str]) -> str:
    return (
        answer.stderr.strip().rpartition("\n")[2].removeprefix("fatal: ")
        or f"git ended with {answer.returncode}"
    )
