#!/usr/bin/python3
"""More clients: idle.py N opens so many connections to $LAB_TARGET, one after the other, and holds them. One that
the other side closes is opened again."""

import os
import select
import socket
import sys
import time

host, port = os.environ["LAB_TARGET"].rsplit(":", 1)
held = []
while True:
    for one in select.select(held, [], [], 0)[0]:
        held.remove(one)
        one.close()
    if len(held) < int(sys.argv[1]):
        try:
            held.append(socket.create_connection((host, int(port)), timeout=1))
        except OSError as error:
            print(f"{time.time():.3f} {error!r}", file=sys.stderr)
    time.sleep(0.25)
