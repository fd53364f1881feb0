"""Brings a stray exception's text out: in a component it would end the call without one."""

from . import types
from .problem import Problem


def problem_of(error, say):
    """The problem that an exception is: itself, or a line in the log and `report-bug`. `say(text)` writes to the log."""
    if isinstance(error, Problem):
        return error
    text = f"{type(error).__name__}: {error}"
    say("\n".join([text, *_frames(error)]))
    return Problem.report_bug("guest-exception", text)


def _frames(error):
    """Where it came from, innermost first. Not by `traceback`: it looks for the source's text, and a component has no files to look in
    (with WASI stubbed out, the look alone ends the call)."""
    lines, at = [], error.__traceback__
    while at is not None:
        code = at.tb_frame.f_code
        lines.append(f"  {code.co_filename}:{at.tb_lineno} in {code.co_name}")
        at = at.tb_next
    return reversed(lines)


def verdicts(error, sets, say):
    """What `normalize` answers when it fails: it has no other way to say so."""
    record = problem_of(error, say).record()
    return [types.Verdict_Refused(record) for _ in sets]


def checks(error, say):
    """The same for `test_connection`."""
    return [types.Check("reach", False, problem_of(error, say).message)]
