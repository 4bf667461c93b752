"""Takes a port: squat.py ADDRESS PORT. Whoever connects is refused service."""

import os
import socket
import sys

server = socket.socket()
server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
server.bind((sys.argv[1], int(sys.argv[2])))
server.listen()
open(os.environ["LAB_NOTES"] + "/squatting", "w").close()
while True:
    server.accept()[0].close()
