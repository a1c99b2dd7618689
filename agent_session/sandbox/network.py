"""Give a command a network of its own, with the internet and nothing else. Run as a script:
`network.py <path of slirp4netns> command…`.

A new user and network namespace; slirp4netns carries packets to the outside, without the host's loopback;
routes refuse every private, link-local and metadata address and the networks that the host is connected
to. The command gets no capability to change them. Standard library only: it starts in milliseconds.
"""

import ctypes
import os
import select
import socket
import struct
import sys

CLONE_NEWUSER, CLONE_NEWNET = 0x10000000, 0x40000000
CIDR = "198.18.0.0/24"  #: a range for benchmarks that is routed nowhere; the resolver is its third address
REFUSED = (
    "0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "168.63.129.16/32", "169.254.0.0/16", "172.16.0.0/12", "192.0.0.0/24",
    "192.88.99.0/24", "192.168.0.0/16", "198.18.0.0/15", "224.0.0.0/4", "240.0.0.0/4",
)  # fmt: skip
READY_S = 10.0

RTM_NEWROUTE, RTN_UNREACHABLE, RT_TABLE_MAIN, RTPROT_STATIC, RTA_DST = 24, 7, 254, 4, 1
NLM_F_REQUEST, NLM_F_ACK, NLM_F_CREATE = 1, 4, 0x400


def connected_networks() -> list[str]:
    """The host's own addresses and networks: a sandbox is no way into them."""
    found = own_addresses()
    with open("/proc/net/route") as file:
        for line in file.readlines()[1:]:
            _, destination, gateway, _, _, _, _, mask, *_ = line.split()
            if gateway == "00000000" and mask != "00000000":
                address = socket.inet_ntoa(struct.pack("=L", int(destination, 16)))
                found.append(f"{address}/{bin(int(mask, 16)).count('1')}")
    return found


def own_addresses() -> list[str]:
    """From /proc/net/fib_trie, where a local address stands above the line that says so."""
    found, address = set[str](), ""
    with open("/proc/net/fib_trie") as file:
        for line in file:
            if line.lstrip().startswith("|-- "):
                address = line.split()[-1]
            elif "/32 host LOCAL" in line and not address.startswith("127."):
                found.add(f"{address}/32")
    return sorted(found)


def refuse(networks: list[str]) -> None:
    """Add a route of type unreachable for each; an existing one is fine."""
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE) as netlink:
        netlink.bind((0, 0))
        for number, network in enumerate(networks, 1):
            address, _, bits = network.partition("/")
            attribute = struct.pack("=HH4s", 8, RTA_DST, socket.inet_aton(address))
            route = struct.pack(
                "=BBBBBBBBI", socket.AF_INET, int(bits), 0, 0, RT_TABLE_MAIN, RTPROT_STATIC, 0, RTN_UNREACHABLE, 0
            )
            flags = NLM_F_REQUEST | NLM_F_ACK | NLM_F_CREATE
            body = route + attribute
            netlink.send(struct.pack("=IHHII", 16 + len(body), RTM_NEWROUTE, flags, number, 0) + body)
            (code,) = struct.unpack_from("=i", netlink.recv(4096), 16)
            if code not in (0, -17):
                raise OSError(-code, f"route to {network}")


def enter_namespaces() -> None:
    """Be alone with the network, under the same user id."""
    uid, gid = os.getuid(), os.getgid()
    if ctypes.CDLL(None, use_errno=True).unshare(CLONE_NEWUSER | CLONE_NEWNET) != 0:
        raise OSError(ctypes.get_errno(), "user and network namespaces")
    for name, text in (("setgroups", "deny"), ("uid_map", f"{uid} {uid} 1"), ("gid_map", f"{gid} {gid} 1")):
        with open(f"/proc/self/{name}", "w") as file:
            file.write(text)


def child(command: list[str], entered: int, connected: int, networks: list[str]) -> None:
    try:
        enter_namespaces()
        os.write(entered, b"1")
        if os.read(connected, 1) != b"1":
            os._exit(125)
        refuse(networks)
        os.close(entered)
        os.close(connected)
        os.execvp(command[0], command)
    except OSError as error:
        os.write(2, f"network: {error.strerror} ({error.filename or error.args[-1]})\n".encode())
    os._exit(125)


def start_helper(program: str, pid: int) -> bool:
    """slirp4netns for that process's namespaces; it ends with us."""
    ready, ready_end = os.pipe()
    exit_end, _alive = os.pipe()  # the other end closes when we are gone, however we went
    os.set_inheritable(ready_end, True)
    os.set_inheritable(exit_end, True)
    if os.fork() == 0:
        os.close(_alive)
        nowhere = os.open(os.devnull, os.O_RDWR)
        for number in (0, 1, 2):
            os.dup2(nowhere, number)
        os.execv(program, [
            program, "--configure", "--enable-sandbox", "--enable-seccomp",
            "--mtu=65520", "--disable-host-loopback", f"--cidr={CIDR}",
            f"--ready-fd={ready_end}", f"--exit-fd={exit_end}", str(pid), "tap0",
        ])  # fmt: skip
    os.close(ready_end)
    return bool(select.select([ready], [], [], READY_S)[0]) and os.read(ready, 1) == b"1"


def main() -> None:
    networks = [*REFUSED, *connected_networks()]
    entered, entered_end = os.pipe()
    connected, connected_end = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(entered)
        os.close(connected_end)
        child(sys.argv[2:], entered_end, connected, networks)
    os.close(entered_end)
    os.close(connected)
    if os.read(entered, 1) == b"1":
        if start_helper(sys.argv[1], pid):
            os.write(connected_end, b"1")
        else:
            os.write(2, b"network: slirp4netns did not connect\n")
    os.close(connected_end)
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    os._exit(code if code >= 0 else 128 - code)


if __name__ == "__main__":
    main()
