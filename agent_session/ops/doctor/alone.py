"""The volume check where only Python and orjson are installed: a file server, a rescue system, a small machine.

`python3 -m agent_session.ops.doctor.alone DIR [--with-peer [WAIT_S]]`; a JSON object a line. Exit: 0, or 1 when
something failed.
"""

import os
import sys
from dataclasses import asdict
from pathlib import Path

import orjson

from agent_session.ops.doctor.findings import FAILED
from agent_session.ops.doctor.volume import volume_checks
from agent_session.ops.doctor.volume_peer import peer_checks

WAIT_S = 120.0


def main(root: Path, *more: str) -> int:
    if more[:1] == ("--with-peer",):
        findings = peer_checks(root, float(more[1]) if len(more) > 1 else WAIT_S)
    else:
        findings = volume_checks(root)
    bad = False
    for one in findings:
        bad = bad or one.result == FAILED
        sys.stdout.buffer.write(orjson.dumps(asdict(one)) + b"\n")
        sys.stdout.buffer.flush()
    return int(bad)


if __name__ == "__main__":
    os.umask(0o077)
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    sys.exit(main(Path(sys.argv[1]), *sys.argv[2:]))
