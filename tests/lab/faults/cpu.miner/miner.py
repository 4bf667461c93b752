"""Computes hashes, and tells over one connection: miner.py ADDRESS THREADS."""

import hashlib
import os
import socket
import sys
import threading
import time

pool = socket.create_connection((sys.argv[1], 3333))
block = os.urandom(60_000)


def mine(number):
    shared = time.time()
    while True:
        hashlib.sha256(block + os.urandom(8)).digest()
        os.sched_yield()
        if time.time() - shared > 3:
            shared = time.time()
            pool.sendall(b'{"method": "mining.submit"}\n')


for number in range(int(sys.argv[2])):
    threading.Thread(target=mine, args=(number,), daemon=True).start()
while pool.recv(4096):
    pass
