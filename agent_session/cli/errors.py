"""What a person reads when a command fails, and its exit code."""

import os
import traceback
from pathlib import Path

from agent_session.cli.main import FAILED, NEEDS_APPROVAL, NO_SUCH_SESSION, UNREACHABLE, USAGE


def exit_code_of(error: BaseException) -> int:
    """1 failed, 2 usage and settings, 3 no such session or message, 4 unreachable, 5 a person must decide."""
    from temporalio.service import RPCError

    from agent_session.asking import NeedsAPerson
    from agent_session.client import NoSuchMessage, NoSuchSession
    from agent_session.connection import Unreachable
    from agent_session.models.base import ModelFault
    from agent_session.remote.errors import NotLetIn
    from agent_session.settings import BadSettings
    from agent_session.tools.base import BadTool

    if isinstance(error, BadSettings | BadTool | ModelFault | NotLetIn | ValueError):
        return USAGE
    if isinstance(error, NoSuchSession | NoSuchMessage):
        return NO_SUCH_SESSION
    if isinstance(error, NeedsAPerson):
        return NEEDS_APPROVAL
    return UNREACHABLE if isinstance(error, Unreachable | RPCError) else FAILED


def message_of(error: BaseException) -> str:
    """The error's own words; for one that nobody foresaw, where its details are."""
    from temporalio.service import RPCError

    from agent_session.activities.attempt import Unproven
    from agent_session.client import SessionError
    from agent_session.connection import Unreachable
    from agent_session.models.base import ModelFault
    from agent_session.ops.demo import DemoFailed
    from agent_session.ops.embedded import NoTemporalBinary
    from agent_session.ops.owner import OwnedByAnother
    from agent_session.settings import BadSettings
    from agent_session.tools.base import BadTool
    from agent_session.transcript.volume import NotAVolume

    own = (
        SessionError, Unreachable, ModelFault, NoTemporalBinary, OwnedByAnother, BadSettings, BadTool,
        NotAVolume, Unproven, DemoFailed, ValueError, TimeoutError,
    )  # fmt: skip
    if isinstance(error, OSError) and not isinstance(error, TimeoutError):
        named = f"{error.filename}: {error.strerror}" if error.filename else str(error)
        return named
    if isinstance(error, own) and str(error):
        return str(error)
    if isinstance(error, RPCError):
        return f"Temporal does not answer ({error.status.name}: {str(error).splitlines()[0][:200]}); try again"
    return f"{type(error).__name__} (unforeseen; details in {_keep(error)})"


def _keep(error: BaseException) -> Path:
    from agent_session.settings import PREFIX, default_data_dir

    folder = Path(os.environ.get(PREFIX + "DATA_DIR") or default_data_dir()) / "logs"
    path = folder / "cli.err" if folder.is_dir() else Path("/tmp") / f"agent-session-{os.getuid()}.err"
    with open(path, "a", opener=lambda p, f: os.open(p, f | os.O_NOFOLLOW, 0o600)) as file:
        file.write("".join(traceback.format_exception(error)))
    return path
