# SPDX-License-Identifier: MIT
"""Ports of one's own. A port that was chosen and let go again may be another test's a moment later, for
its server or for its end of some connection; these are kept until the process of the tests ends."""

import socket

_kept = []


def reserve_port():
    """A port that nobody is given but who names it: connections to it are refused until a server
    listens there (with SO_REUSEADDR, as all servers do), and again once it has ended."""
    return reserve_ports(1)


def reserve_ports(count):
    """The first of so many neighbours."""
    while True:
        held = [_hold(0)]
        first = held[0].getsockname()[1]
        try:
            held += [_hold(port) for port in range(first + 1, first + count)]
        except (OSError, OverflowError):  # a neighbour is somebody's
            continue
        _kept.extend(held)
        return first


def _hold(port):
    """Bound at all addresses, listening at none; only now may others bind it as well."""
    sock = socket.socket()
    sock.bind(("", port))
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    return sock


def dev_ports():
    """For `luaworker dev`, which takes no port 0."""
    return {name: reserve_port() for name in ("port", "model-port", "autoscaler-port")}


def as_options(ports):
    return [word for name, port in ports.items() for word in (f"--{name}", str(port))]
