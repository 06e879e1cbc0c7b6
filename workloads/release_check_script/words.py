"""The sentence that helps, out of what Ray reports: usually a traceback in a traceback."""

from __future__ import annotations

import re

# Kubernetes keeps 4096 bytes of a termination message.
LONGEST_CHARS = 1500

_COLOUR = re.compile(r"\x1b\[[0-9;]*m")
# What a traceback of an ExceptionGroup has before its lines, and between its exceptions.
_GROUP_MARGIN = re.compile(r"^ *(?:\| ?|\+ (?=Exception Group))")
_GROUP_RULE = re.compile(r"^ *\+-[-+]+.*$")
_PYTHON_HEAD = "Traceback (most recent call last):"
# Heads of tracebacks: Python's, and the one that Ray puts in its place (RayTaskError.__str__ in
# ray/exceptions.py, 2.60).
_HEAD = re.compile(r"Traceback \(most recent call last\):$|^ray::.*\(pid=|: ray::.*\(pid=")
_CHAIN = ("The above exception was the direct cause of", "During handling of the above exception,")
_MODULE = re.compile(r"^(?:[A-Za-z_]\w*\.)+(?=[A-Z])")
# Advice that follows a message and takes its place at the end: pydantic's links, Ray's list of processes.
_ADVICE = re.compile(r"^\s*For further information visit|^\t")
# After the first sentence of a worker that was killed for want of memory, with line ends that may be quoted.
_STATISTICS = re.compile(r"(?:\\n|\s)*(?:OOM kill reason|Top 10 memory users)")


def last_words(report: str) -> str:
    """What the last exception in a report says, on one line; the last line where there is no exception."""
    plain = _COLOUR.sub("", report).splitlines()
    lines = [_GROUP_MARGIN.sub("", _GROUP_RULE.sub(_PYTHON_HEAD, line)) for line in plain]
    message = _last_exception(lines)
    if message:
        message[0] = _MODULE.sub("", message[0])
    else:
        message = [line for line in lines if line.strip()][-1:]
    kept = [line.strip() for line in message if line.strip() and not _ADVICE.match(line)]
    sentence = _STATISTICS.split(" ".join(kept), maxsplit=1)[0].strip()
    return sentence if len(sentence) <= LONGEST_CHARS else sentence[:LONGEST_CHARS] + " ..."


def _last_exception(lines: list[str]) -> list[str]:
    """The lines of the last exception's message, its type in front.

    A message begins with the first line that is not indented after a traceback's frames, and ends where the
    next traceback begins. One that only says "here is a traceback" is no message.
    """
    found: list[str] = []
    in_frames = in_message = False
    for line in lines:
        if _HEAD.search(line) or line.startswith('  File "'):
            in_frames, in_message = True, False
        elif in_frames and line.strip() and not line.startswith(" "):
            in_frames, in_message = False, True
            found = [line]
        elif line.startswith(_CHAIN):
            in_message = False
        elif in_message:
            found.append(line)
    return found
