"""Hands out work: pool.py ADDRESS."""

import socket
import sys
import threading
import time

server = socket.create_server((sys.argv[1], 3333))


def serve(client):
    while True:
        client.sendall(b'{"method": "mining.notify"}\n')
        time.sleep(5)


while True:
    threading.Thread(target=serve, args=server.accept()[:1], daemon=True).start()
