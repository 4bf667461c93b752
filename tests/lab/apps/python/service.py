#!/usr/bin/python3
"""A desk that takes orders: HTTP on a thread a connection, a database and a price service behind.

`features.json` is read for every request, as switches of a deployment are.
"""

import json
import os
import socket
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

sys.path.insert(0, os.environ["LIBRARY"])
import wire

WORK, DATA = os.environ["WORK"], os.environ["DATA"]
DATABASE = (os.environ["DATABASE_HOST"], int(os.environ["DATABASE_PORT"]))
QUOTES = (os.environ["QUOTES_HOST"], int(os.environ["QUOTES_PORT"]))
TIMEOUT = 2.0
pool, pool_lock = [], threading.Lock()
count_lock, audit_lock = threading.Lock(), threading.Lock()
counts, kept = {}, []


def features():
    with open(f"{WORK}/features.json") as file:
        return json.load(file)


def query(text, reuse):
    with pool_lock:
        database = pool.pop() if pool and reuse else None
    database = database or wire.Postgres(*DATABASE, TIMEOUT, "postgres", "postgres")
    try:
        rows = database.query(text)
    except (OSError, ValueError):
        database.close()
        raise
    if not reuse:
        database.close()
        return rows
    with pool_lock:
        pool.append(database)
    return rows


def item(number, on):
    rows = query(f"SELECT text FROM item WHERE id = {int(number)}", on["keep_alive"])
    return rows[0][0][:100]


def price(number, on):
    with open(f"{WORK}/prices.json") as file:
        return str(json.load(file)[str(number)])


def quote(number, on):
    """Asked by name, with a new connection each time."""
    host = socket.getaddrinfo(*QUOTES, socket.AF_INET, socket.SOCK_STREAM)[0][4][0]
    asked = wire.Wire(host, QUOTES[1], TIMEOUT)
    try:
        asked.send(f"GET /{200 + int(number)} HTTP/1.1\r\nHost: q\r\nConnection: close\r\n\r\n".encode())
        status, _ = asked.http_answer()
        return str(status)
    finally:
        asked.close()


def count(number, on):
    with count_lock:
        if on["lock_ms"]:
            time.sleep(on["lock_ms"] / 1000)
        counts[number] = counts.get(number, 0) + 1
        if on["deadlock"] == "order":
            time.sleep(0.02)
            with audit_lock:
                return "counted and audited"
        if on["deadlock"] == "self":
            with count_lock:
                return "counted twice"
    return str(counts[number])


def audit(number, on):
    with audit_lock:
        if on["deadlock"] == "order":
            time.sleep(0.02)
            with count_lock:
                return "audited and counted"
        return str(len(counts))


def report(number, on):
    return str(len(bytearray(6_000_000 + int(number) * 1000)))


def order(body, on):
    path = f"{DATA}/order-{body['item']}-{threading.get_ident() % 7}"
    with open(path, "w") as file:
        file.write(json.dumps(body))
        file.flush()
        os.fsync(file.fileno())
    return "ordered"


ROUTES = {"item": item, "price": price, "quote": quote, "count": count, "audit": audit, "report": report}


class Desk(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def answer(self, work):
        try:
            on = features()
            if on["fd_leak"]:
                kept.extend(open("/dev/null") for _ in range(on["fd_leak"]))
            if on["memory_leak_kb"]:
                kept.append(bytearray(os.urandom(1024)) * on["memory_leak_kb"])
            status, text = 200, work(on)
        except (OSError, ValueError, KeyError, IndexError, MemoryError, RuntimeError) as error:
            status, text = 500, repr(error)
            print(f"{self.path}: {error!r}", file=sys.stderr)
        text = text.encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def do_GET(self):
        route, _, number = self.path.strip("/").partition("/")
        if route in ROUTES:
            self.answer(lambda on: ROUTES[route](number or "1", on))
        else:
            self.send_error(404)

    def do_POST(self):
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.answer(lambda on: order(json.loads(body), on))

    def log_message(self, *_):
        pass


class Server(ThreadingHTTPServer):
    request_queue_size = 128
    daemon_threads = True


Server(("0.0.0.0", int(os.environ["PORT"])), Desk).serve_forever()
