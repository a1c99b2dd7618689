"""The one place where every command begins and ends.

The Temporal SDK can crash the interpreter at exit (native threads outlive finalisation), so the end is
explicit: flush, then `os._exit`. And nobody sees a traceback: what was wrong, and what to do.
"""

import os
import sys
from typing import NoReturn

OK, FAILED, USAGE, NO_SUCH_SESSION, UNREACHABLE, NEEDS_APPROVAL = 0, 1, 2, 3, 4, 5


def main() -> NoReturn:
    """Run the command line and end the process with its exit code."""
    if sys.argv[1:] in (["--version"], ["-V"]):
        from agent_session import __version__

        print(f"agent-session {__version__}")
        finish(OK)
    os.umask(0o077)
    code = FAILED
    _stand_in_for_closed_streams()
    try:
        code = _run()
    except KeyboardInterrupt:
        code = 130
    except (BrokenPipeError, SystemExit) as error:  # a reader like `head` has left; typer makes an exit of it
        left = isinstance(error, BrokenPipeError) or isinstance(error.__context__, BrokenPipeError)
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        code = OK if left else FAILED
    except BaseException as error:
        code = _explain(error)
    finish(code)


def _stand_in_for_closed_streams() -> None:
    """Whoever started us may have closed standard output or standard error."""
    nowhere = open(os.devnull, "w")  # noqa: SIM115  # for as long as the process lives
    sys.stdout = sys.stdout or nowhere
    sys.stderr = sys.stderr or nowhere


def _run() -> int:
    from agent_session.cli.app import app

    try:
        outcome = app(standalone_mode=False)
    except Exception as error:  # typer brings its own copy of click, so its errors are known by what they can do
        code, show = getattr(error, "exit_code", None), getattr(error, "show", None)
        if code is None and type(error).__name__ != "Abort":
            raise
        if show is not None:
            show()
        return 130 if code is None else int(code)
    return outcome if isinstance(outcome, int) else OK


def _explain(error: BaseException) -> int:
    from agent_session.cli.errors import exit_code_of, message_of

    print(f"error: {message_of(error)}", file=sys.stderr)
    return exit_code_of(error)


def finish(code: int) -> NoReturn:
    """Flush everything, then leave without finalisation."""
    import logging

    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError):
            pass
    if "opentelemetry.trace" in sys.modules:
        provider = sys.modules["opentelemetry.trace"].get_tracer_provider()
        getattr(provider, "force_flush", lambda: None)()
    logging.shutdown()
    os._exit(code)
