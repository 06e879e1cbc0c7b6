"""The one sentence out of what Ray reports, from tracebacks that Python and Ray really write."""

from __future__ import annotations

import traceback
from collections.abc import Callable

import pytest
from pydantic import BaseModel, ValidationError
from ray.exceptions import ActorDiedError, OutOfMemoryError, RayTaskError, RuntimeEnvSetupError

from workloads.release_check_script.words import LONGEST_CHARS, last_words

SENTENCE = "model '/models/x': no such directory; name one that is in the image"


class ModelError(ValueError):
    """Stands for one of the app's own errors."""


class Settings(BaseModel):
    slots: int
    dtype: str


def fail() -> None:
    raise ModelError(SENTENCE)


def fail_from() -> None:
    try:
        open("/nowhere").close()  # noqa: PTH123
    except OSError as error:
        raise ModelError(SENTENCE) from error


def fail_while_handling() -> None:
    try:
        open("/nowhere").close()  # noqa: PTH123
    except OSError:
        fail()


def fail_as_serve_does() -> None:
    """A replica hands on the traceback of a constructor as the message of another exception."""
    try:
        fail_from()
    except ModelError:
        raise RuntimeError(traceback.format_exc()) from None


def fail_in_a_group() -> None:
    try:
        fail_from()
    except ModelError as error:
        raise ExceptionGroup("unhandled errors in a TaskGroup", [OSError("no disk"), error]) from None  # noqa: F821


def report(fails: Callable[[], object]) -> str:
    try:
        fails()
    except Exception:
        return traceback.format_exc()
    raise AssertionError("nothing was raised")


def ray_report(fails: Callable[[], object]) -> str:
    try:
        fails()
    except Exception as error:
        task = RayTaskError("build", traceback.format_exc(), error, proctitle="ray::ServeReplica", pid=7)
        return f"The deployment failed to start 3 times in a row. Error:\n{task.as_instanceof_cause()}"
    raise AssertionError("nothing was raised")


@pytest.mark.parametrize("fails", [fail, fail_from, fail_while_handling, fail_as_serve_does])
@pytest.mark.parametrize("reported", [report, ray_report])
def test_the_last_exception_is_what_is_said(
    fails: Callable[[], object], reported: Callable[..., str]
) -> None:
    assert last_words(reported(fails)) == f"ModelError: {SENTENCE}"


def test_a_task_that_failed_in_a_task_says_what_the_first_one_said() -> None:
    def outer() -> None:
        raise RuntimeError(
            f"The actor died because of an error raised in its creation task, {ray_report(fail)}"
        )

    assert last_words(report(outer)) == f"ModelError: {SENTENCE}"


def test_one_of_a_group_of_exceptions_is_said() -> None:
    assert last_words(report(fail_in_a_group)) == f"ModelError: {SENTENCE}"
    unraised = ExceptionGroup("two", [OSError("no disk"), ValueError("no model")])  # noqa: F821
    assert last_words("".join(traceback.format_exception(unraised))) == "ValueError: no model"


def test_a_message_of_several_lines_is_one_line_without_links() -> None:
    with pytest.raises(ValidationError):
        Settings.model_validate({"slots": "many"})
    words = last_words(ray_report(lambda: Settings.model_validate({"slots": "many"})))
    assert words.startswith("ValidationError: 2 validation errors for Settings slots Input should be a valid")
    assert "dtype Field required" in words
    assert "https://" not in words


def test_blank_lines_do_not_end_a_message() -> None:
    def fails() -> None:
        raise ValueError("first\n\n    second: indented\nthird")

    assert last_words(report(fails)) == "ValueError: first second: indented third"


def test_code_that_cannot_be_read_is_told() -> None:
    assert last_words(report(lambda: compile("f(", "app.py", "exec"))) == "SyntaxError: '(' was never closed"
    words = last_words(ray_report(lambda: __import__("no_such_app")))
    assert words == "ModuleNotFoundError: No module named 'no_such_app'"


def test_an_exception_without_a_message_is_named() -> None:
    def fails() -> None:
        raise NotImplementedError

    assert last_words(report(fails)) == "NotImplementedError"


def test_memory_that_ran_out_is_told_without_the_list_of_processes() -> None:
    def fails() -> None:
        raise OutOfMemoryError(
            "Task was killed due to the node running low on memory.\n"
            "Memory on the node was 1.90GB / 2.00GB (0.95). Top 10 memory users:\nPID\tMEM(GB)\n7\t1.8"
        )

    assert last_words(report(fails)) == (
        "OutOfMemoryError: Task was killed due to the node running low on memory. "
        "Memory on the node was 1.90GB / 2.00GB (0.95)."
    )


def test_a_replica_that_was_killed_for_want_of_memory_says_so_without_statistics() -> None:
    # As Serve reports it: the exception's `repr`, with its line ends quoted.
    told = (
        "OutOfMemoryError('1 worker(s) were killed: 2.67GB used / 2.75GB limit (0.97)\\nOOM kill reason: x')"
    )
    assert last_words(told) == told.partition("\\n")[0]


def test_an_actor_that_died_says_so() -> None:
    def fails() -> None:
        raise ActorDiedError

    assert last_words(report(fails)).startswith("ActorDiedError: The actor died unexpectedly")


def test_code_that_cannot_be_fetched_is_told() -> None:
    def fails() -> None:
        raise RuntimeEnvSetupError("Failed to download s3://bucket/code.zip: Access Denied")

    text = f"Runtime env setup for app 'chat' failed:\n{report(fails)}"
    assert last_words(text) == (
        "RuntimeEnvSetupError: Failed to set up runtime environment. "
        "Failed to download s3://bucket/code.zip: Access Denied"
    )


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", ""),
        ("\n \n", ""),
        ("Deploying.\n", "Deploying."),
        ("Waiting.\nMountVolume.SetUp failed", "MountVolume.SetUp failed"),
    ],
)
def test_without_an_exception_the_last_line_is_said(text: str, words: str) -> None:
    assert last_words(text) == words


def test_a_long_message_is_cut() -> None:
    assert len(last_words("x" * 10_000)) == LONGEST_CHARS + len(" ...")
