"""A volume for one example; an example is no test, so pytest's folders do not fit."""

import functools
import tempfile
from pathlib import Path

from agent_session.transcript.volume import Volume


@functools.cache
def _root() -> tempfile.TemporaryDirectory[str]:
    """Goes with the process."""
    return tempfile.TemporaryDirectory(prefix="agent-session-property-")


def new_volume() -> Volume:
    volume = Volume(Path(tempfile.mkdtemp(dir=_root().name)) / "v")
    volume.create()
    return volume
