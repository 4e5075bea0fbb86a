"""A cable that delays and loses frames, in user space, since kernels of containers often lack netem: slow_cable.py NAME PID SECONDS LOSS.

Runs beside the switch: makes the port NAME there, and eth0 in the network namespace of the process PID. Every frame arrives SECONDS later, in either
direction, except for the share LOSS of them. Prints "ready".
"""
import collections
import ctypes
import fcntl
import os
import random
import select
import struct
import sys
import time

TUNSETIFF, IFF_TAP, IFF_NO_PI = 0x400454CA, 0x0002, 0x1000


def tap(name):
    device = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
    fcntl.ioctl(device, TUNSETIFF, struct.pack("16sH", name.encode(), IFF_TAP | IFF_NO_PI))
    return device


def enter_network_of(pid):
    with open(f"/proc/{pid}/ns/net") as namespace:
        if ctypes.CDLL(None, use_errno=True).setns(namespace.fileno(), 0) != 0:
            raise OSError(ctypes.get_errno(), "setns")


def main(name, pid, seconds, loss):
    port = tap(name)
    enter_network_of(pid)
    other_end = {port: tap("eth0")}
    other_end[other_end[port]] = port
    draws = random.Random(7)
    on_its_way = collections.deque()  # (when it arrives, where, frame)
    print("ready", flush=True)
    while True:
        wait = max(0.0, on_its_way[0][0] - time.monotonic()) if on_its_way else None
        for end in select.select(list(other_end), [], [], wait)[0]:
            try:
                frame = os.read(end, 65536)
            except OSError:  # the interface is down
                continue
            if draws.random() >= loss:
                on_its_way.append((time.monotonic() + seconds, other_end[end], frame))
        while on_its_way and on_its_way[0][0] <= time.monotonic():
            _, end, frame = on_its_way.popleft()
            try:
                os.write(end, frame)
            except OSError:
                pass


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), float(sys.argv[3]), float(sys.argv[4]))
