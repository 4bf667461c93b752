"""Takes a port: squat.py ADDRESS PORT. Whoever connects is refused service."""

import os
import socket
import sys
import time

server = socket.socket()
server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
while True:
    try:
        server.bind((sys.argv[1], int(sys.argv[2])))
        break
    except OSError:
        # Who had it is not quite gone.
        time.sleep(0.02)
server.listen()
open(os.environ["LAB_NOTES"] + "/squatting", "w").close()
while True:
    server.accept()[0].close()
