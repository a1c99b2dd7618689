"""The machines of `nfs_lab.py`: an NFSv4 server (nfs-ganesha) on this host, and guests (qemu) that mount it.

Needs root, and of Debian: nfs-ganesha nfs-ganesha-vfs qemu-system-x86 debootstrap e2fsprogs.
"""

import asyncio
import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any, Self

ROOT = Path(__file__).parents[1]
CACHE = ROOT / ".cache" / "nfs"
PACKAGES = "linux-image-cloud-amd64,initramfs-tools,nfs-common,netbase,iproute2,python3,udev,kmod"
PYTHON = "3.11"  #: bookworm's, for which orjson is fetched
PROGRAMS = ("qemu-system-x86_64", "ganesha.nfsd", "debootstrap", "mkfs.ext4")
PORT = 20490
LEASE_S, GRACE_S = 20, 20  #: usual servers: 90 and 90; shorter, so that the lab is
BOOT_S = 600.0
INIT = """#!/bin/sh
export PATH=/usr/sbin:/usr/bin:/sbin:/bin
for one in proc sysfs:sys devtmpfs:dev; do mountpoint -q "/${one#*:}" || mount -t "${one%:*}" lab "/${one#*:}"; done
mount -t tmpfs tmp /run; mount -t tmpfs tmp /tmp; mkdir -p /m /code
hostname "$(sed 's/.*lab.host=\\([^ ]*\\).*/\\1/' /proc/cmdline)"
modprobe virtio_net; modprobe nfsv4
ip link set lo up; ip addr add 10.0.2.15/24 dev eth0; ip link set eth0 up; ip route add default via 10.0.2.2
mount -o ro /dev/vdb /code
exec python3 -u /code/scripts/nfs_guest.py
"""
CONFIG = """
NFS_CORE_PARAM {{ Protocols = 4; NFS_Port = {port}; Bind_addr = 127.0.0.1; Enable_NLM = false; Enable_RQUOTA = false; }}
NFSV4 {{ Graceless = false; Lease_Lifetime = {lease}; Grace_Period = {grace}; Only_Numeric_Owners = true; }}
EXPORT {{ Export_Id = 1; Path = {path}; Pseudo = /x; Access_Type = RW; Squash = No_Root_Squash; Protocols = 4;
  Transports = TCP; FSAL {{ Name = VFS; }} }}
"""


def lacking() -> list[str]:
    """Programs that the lab needs and this host lacks."""
    return [name for name in PROGRAMS if shutil.which(name) is None]


def build_image() -> None:
    """A small Debian with Python, orjson and NFS, made once; about two minutes."""
    if (CACHE / "vm.img").exists():
        return
    rootfs = CACHE / "rootfs"
    shutil.rmtree(rootfs, ignore_errors=True)
    CACHE.mkdir(parents=True, exist_ok=True)
    (CACHE / ".gitignore").write_text("*\n")
    mirror = [os.environ["DEBIAN_MIRROR"]] if "DEBIAN_MIRROR" in os.environ else []
    _run("debootstrap", "--variant=minbase", f"--include={PACKAGES}", "bookworm", str(rootfs), *mirror)
    _run(
        sys.executable, "-m", "pip", "install", "--quiet", "--only-binary=:all:", "--python-version", PYTHON,
        "--target", str(rootfs / "usr/lib/python3/dist-packages"), "orjson",
    )  # fmt: skip
    (rootfs / "init-lab").write_text(INIT)
    (rootfs / "init-lab").chmod(0o755)
    for name in ("vmlinuz", "initrd.img"):
        (found,) = (rootfs / "boot").glob(f"{name}-*")
        shutil.copy(found, CACHE / name)
    image = CACHE / "vm.img.new"
    _make_image(image, rootfs, "2G")
    shutil.rmtree(rootfs)
    image.rename(CACHE / "vm.img")


def build_code() -> None:
    """Our modules, as a read-only disk."""
    folder = CACHE / "code"
    shutil.rmtree(folder, ignore_errors=True)
    ours = shutil.ignore_patterns("__pycache__", "*.pyc")
    shutil.copytree(ROOT / "agent_session", folder / "agent_session", ignore=ours)
    shutil.copytree(ROOT / "scripts", folder / "scripts", ignore=ours)
    _make_image(CACHE / "code.img", folder, "64M")


def _make_image(image: Path, folder: Path, size: str) -> None:
    image.unlink(missing_ok=True)
    _run("truncate", "-s", size, str(image))
    _run("mkfs.ext4", "-q", "-d", str(folder), str(image))


def _run(*command: str) -> None:
    log = CACHE / "build.log"
    with open(log, "ab") as out:
        if subprocess.run(command, stdout=out, stderr=out, check=False).returncode:
            raise SystemExit(f"error: {command[0]} failed; see {log}")


class Server:
    """nfs-ganesha, exporting one folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._process: asyncio.subprocess.Process | None = None

    async def start(self) -> None:
        config = CACHE / "ganesha.conf"
        config.write_text(CONFIG.format(port=PORT, lease=LEASE_S, grace=GRACE_S, path=self._folder))
        for needed in ("/var/run/ganesha", "/var/lib/nfs/ganesha"):
            Path(needed).mkdir(parents=True, exist_ok=True)
        self._process = await asyncio.create_subprocess_exec(
            "ganesha.nfsd", "-F", "-f", str(config), "-L", str(CACHE / "ganesha.log"), "-p", str(CACHE / "ganesha.pid"),
            "-N", "NIV_EVENT",
        )  # fmt: skip
        async with asyncio.timeout(30):
            while True:
                try:
                    _, writer = await asyncio.open_connection("127.0.0.1", PORT)
                    writer.close()
                    return
                except OSError:
                    await asyncio.sleep(0.1)

    async def kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            await self._process.wait()
            self._process = None


class Guest:
    """A machine of its own, with its own kernel."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._answers: dict[int, asyncio.Future[dict[str, Any]]] = {}
        self._asked = 0
        self._process: asyncio.subprocess.Process | None = None
        self._listening: asyncio.Task[None] | None = None

    async def boot(self) -> Self:
        socket, console = CACHE / f"{self.name}.sock", CACHE / f"{self.name}.log"
        socket.unlink(missing_ok=True)
        disks = [("vm.img", "snapshot=on"), ("code.img", "readonly=on")]
        self._process = await asyncio.create_subprocess_exec(
            "qemu-system-x86_64", "-accel", "tcg,thread=multi", "-cpu", "max", "-m", "768", "-smp", "1",
            "-display", "none", "-no-reboot", "-kernel", str(CACHE / "vmlinuz"), "-initrd", str(CACHE / "initrd.img"),
            "-append", f"root=/dev/vda rw console=ttyS0 net.ifnames=0 init=/init-lab lab.host={self.name} quiet",
            *(part for file, how in disks for part in ("-drive", f"file={CACHE / file},format=raw,if=virtio,{how}")),
            "-nic", "user,model=virtio-net-pci", "-serial", f"file:{console}",
            "-serial", f"unix:{socket},server=on,wait=off", stdin=asyncio.subprocess.DEVNULL,
        )  # fmt: skip
        self._answers[0] = ready = asyncio.get_running_loop().create_future()
        async with asyncio.timeout(BOOT_S):
            while not socket.exists():
                await asyncio.sleep(0.05)
            reader, self._writer = await asyncio.open_unix_connection(str(socket), limit=1 << 22)
            self._listening = asyncio.create_task(self._listen(reader))
            await ready
        return self

    async def _listen(self, reader: asyncio.StreamReader) -> None:
        while line := await reader.readline():
            try:
                said = json.loads(line)
            except ValueError:
                continue  # what the port said before it was raw
            waiting = self._answers.pop(said.get("id", 0), None)
            if waiting is not None and not waiting.done():
                waiting.set_result(said)

    def start(self, command: str, within_s: float = 120) -> "asyncio.Future[dict[str, Any]]":
        """Run a shell command; the future has code, out, err."""
        self._asked += 1
        self._answers[self._asked] = answer = asyncio.get_running_loop().create_future()
        self._writer.write(json.dumps({"id": self._asked, "run": command, "within_s": within_s}).encode() + b"\n")
        return answer

    async def run(self, command: str, within_s: float = 120) -> str:
        """Its output. Errors: AssertionError when it fails."""
        async with asyncio.timeout(within_s + 30):
            done = await self.start(command, within_s)
        assert done["code"] == 0, f"{self.name}: {command}\n{done['out']}\n{done['err']}"
        return str(done["out"])

    async def mount(self, options: str = "", at: str = "/m") -> None:
        more = f",{options}" if options else ""
        await self.run(f"mkdir -p {at} && mount -t nfs4 -o port={PORT},proto=tcp{more} 10.0.2.2:/x {at}")

    def signal(self, number: signal.Signals) -> None:
        """SIGSTOP: the whole machine is paused."""
        assert self._process is not None
        self._process.send_signal(number)

    async def kill(self) -> None:
        """As if its power failed."""
        if self._process is not None:
            self._process.kill()
            await self._process.wait()
            self._process = None
        if self._listening is not None:
            self._listening.cancel()
