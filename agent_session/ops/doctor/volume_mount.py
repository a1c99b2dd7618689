"""What kind of file system a volume is, and which of its mount options break a promise. From the kernel's mount
table (Linux); elsewhere nothing is said.
"""

import os
import re
from collections.abc import Generator
from dataclasses import dataclass
from pathlib import Path

from agent_session.ops.doctor.findings import Finding, failed, ok, skipped, warning

CHECK = "volume.mount"
SEE = "docs/operations/volumes.md"
MOUNTS = Path("/proc/self/mountinfo")
LOCAL = ("ext2", "ext3", "ext4", "xfs", "btrfs", "zfs", "f2fs", "bcachefs")
MEMORY = ("tmpfs", "ramfs")
SMB = ("cifs", "smb3", "smbfs")
CLUSTER = ("ceph", "gpfs", "lustre", "fuse.glusterfs", "fuse.ceph", "fuse.juicefs", "ocfs2", "gfs2", "beegfs")
#: an object store or a remote shell behind FUSE: no append, or no rename, or no lock between hosts
NEVER = re.compile(r"fuse\.(.*s3.*|.*gcs.*|.*blobfuse.*|.*goofys.*|rclone|sshfs|.*davfs.*|encfs)|davfs|fuse\.mount-s3")
OCTAL = re.compile(r"\\([0-7]{3})")


@dataclass(frozen=True)
class Mount:
    kind: str = ""  #: nfs4, ext4, …; empty: not known
    source: str = ""
    at: str = ""
    options: tuple[str, ...] = ()

    @property
    def network(self) -> bool:
        return self.kind.startswith("nfs") or self.kind in (*SMB, *CLUSTER)

    def value(self, name: str) -> str:
        """Of `name=value`; `name` itself where it stands alone, empty where it does not stand."""
        for one in self.options:
            head, _, tail = one.partition("=")
            if head == name:
                return tail or head
        return ""


def mount_of(path: Path, table: str | None = None) -> Mount:
    """The mount that holds the path: the last one of the longest mount point above it. Errors: OSError."""
    if table is None:
        if not MOUNTS.exists():
            return Mount()
        table = MOUNTS.read_text()
    where = os.path.realpath(path)
    best = Mount()
    for line in table.splitlines():
        left, _, right = line.partition(" - ")
        before, behind = left.split(), right.split()
        if len(before) < 6 or len(behind) < 3:
            continue
        at = OCTAL.sub(lambda found: chr(int(found[1], 8)), before[4])
        inside = where == at or where.startswith(at.rstrip("/") + "/")
        if inside and len(at) >= len(best.at):
            options = tuple(dict.fromkeys([*before[5].split(","), *behind[2].split(",")]))
            best = Mount(behind[0], OCTAL.sub(lambda found: chr(int(found[1], 8)), behind[1]), at, options)
    return best


def mount_checks(mount: Mount) -> Generator[Finding]:
    """What is known to be wrong with such a mount, or one line that it is known to be right."""
    found = list(_problems(mount))
    yield from found
    if not found:
        yield _fine(mount)


def _problems(mount: Mount) -> Generator[Finding]:
    kind = mount.kind
    if "ro" in mount.options:
        yield failed(CHECK, f"{mount.at} is mounted read-only", f"mount -o remount,rw {mount.at}, and find out why")
    if kind in MEMORY:
        yield warning(CHECK, f"{kind}: nothing of it survives a restart of this host", "use a disk, except for tests")
    elif kind == "overlay":
        yield warning(CHECK, "a container's own layer: gone with the container", "mount a volume at the data directory")
    elif NEVER.fullmatch(kind):
        todo = f"use NFSv4.1 or a cluster file system: {SEE}"
        yield failed(CHECK, f"{kind}: an object store or a remote shell, without locks and appends", todo)
    elif kind in SMB:
        yield from _smb(mount)
    elif kind.startswith("nfs"):
        yield from _nfs(mount)
    elif kind == "lustre" and ("localflock" in mount.options or "noflock" in mount.options):
        yield failed(CHECK, "Lustre without flock between hosts", "mount it with the option flock")


def _nfs(mount: Mount) -> Generator[Finding]:
    version = mount.value("vers") or mount.value("nfsvers")
    name = f"NFS {version} from {mount.source}"
    local = mount.value("local_lock")
    if "nolock" in mount.options or local in ("all", "flock"):
        which = "nolock" if "nolock" in mount.options else f"local_lock={local}"
        yield failed(CHECK, f"{name} with {which}: locks stay on this host", f"mount it without {which}, vers=4.1")
    elif version.startswith(("2", "3")):
        todo = "mount it with vers=4.1; else lockd and statd must run on every client and be reached from the server"
        yield warning(CHECK, f"{name}: locks go through a protocol of their own", todo)
    if "soft" in mount.options or "softerr" in mount.options:
        todo = "mount it hard: a write that is given up early may still arrive later"
        yield warning(CHECK, f"{name} is mounted soft", todo)
    if "nocto" in mount.options:
        todo = "mount it without nocto: who opens a transcript must see what another host has closed"
        yield failed(CHECK, f"{name} is mounted nocto", todo)
    longest = max((int(found) for found in map(mount.value, ("acregmax", "actimeo")) if found.isdigit()), default=60)
    if longest > 60:
        yield warning(CHECK, f"{name} caches attributes for {longest} s", "mount it with actimeo of at most 60")


def _smb(mount: Mount) -> Generator[Finding]:
    name = f"SMB {mount.value('vers')} from {mount.source}".replace("  ", " ")
    for option in ("nobrl", "nolock"):
        if option in mount.options:
            todo = f"mount it without {option}, or use NFS"
            yield failed(CHECK, f"{name} with {option}: locks stay on this host", todo)
            return
    if mount.value("cache") == "loose":
        yield failed(CHECK, f"{name} with cache=loose: hosts do not see each other's writes", "mount it cache=strict")
        return
    yield warning(CHECK, f"{name}: its locks and renames are Windows', not ours", f"use NFS where you can: {SEE}")


def _fine(mount: Mount) -> Finding:
    if not mount.kind:
        return skipped(CHECK, "this system does not tell how it is mounted")
    words = f"{mount.kind} from {mount.source}, at {mount.at}"
    if mount.kind.startswith("nfs"):
        return ok(CHECK, f"{words}, vers={mount.value('vers')}, hard", kind=mount.kind, options=list(mount.options))
    if mount.network:
        return ok(CHECK, f"{words}: shared; doctor --volume --with-peer shows whether between hosts", kind=mount.kind)
    if mount.kind in LOCAL:
        return ok(CHECK, f"{words}: of this host alone", kind=mount.kind)
    return ok(CHECK, f"{words}: nothing is known of it; what follows was tried", kind=mount.kind)
