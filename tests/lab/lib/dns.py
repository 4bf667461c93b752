#!/usr/bin/python3
"""A name server: dns.py ADDRESS. Every name has that address."""

import socket
import sys

server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
server.bind((sys.argv[1], 53))
while True:
    question, client = server.recvfrom(512)
    end = question.find(b"\0", 12) + 5
    if end < 17:
        continue
    is_a = question[end - 4 : end - 2] == b"\0\1"
    head = question[:2] + b"\x85\x80\0\1" + (b"\0\1" if is_a else b"\0\0") + b"\0\0\0\0"
    answer = b"\xc0\x0c\0\1\0\1\0\0\0\1\0\4" + socket.inet_aton(sys.argv[1])
    server.sendto(head + question[12:end] + (answer if is_a else b""), client)
