#!/usr/bin/python3
"""Clients with variety: load.py PROTOCOL [WHAT=WEIGHT …]

Requests come by chance (a Poisson process), $LAB_RATE times what stands in the file $LAB_FACTOR a
second, to $LAB_TARGET. Connections live for some requests, or for one. With $LAB_CROWD, so many come
at once, each on a connection of its own, as often as makes that rate. Prints a line of JSON a
second: answered (ok) and failed requests, quantiles of the answers' times, when the first of the
failed ones was sent.

http:      WHAT is a path, after a method and a colon if not GET; `/a+404` expects that status. Every
           request has a `traceparent` of its own, and a line in $LAB_LOGS/requests.jsonl.
redis, memcached, postgres: WHAT is a request that this file knows; all, without
"""

import json
import os
import queue
import random
import sys
import threading
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import wire

CLIENTS = 12
TIMEOUT = 3.0
# A request that waits longer for a free client is given up.
PATIENCE = 1.0


class Http:
    def __init__(self, host, port):
        self.wire = wire.Wire(host, port, TIMEOUT)

    def ask(self, what, dice, last):
        self.put(what, dice, last)
        return self.take()

    def put(self, what, dice, last):
        """Sends a request."""
        self.what = what
        method, _, rest = what.rpartition(":")
        path, _, status = rest.partition("+")
        path = path.replace("%d", str(dice.randrange(1, 61)))
        body = b""
        if method == "POST":
            size = dice.choice([80, 600, 9000])
            item = dice.randrange(1, 61)
            body = {"item": item, "product": item, "quantity": 1, "note": "x" * size}
            body = json.dumps(body).encode()
        head = f"{method or 'GET'} {path} HTTP/1.1\r\nHost: lab\r\n"
        head += "Connection: close\r\n" if last else ""
        head += f"Content-Length: {len(body)}\r\n" if body else ""
        trace, span = dice.randrange(1, 1 << 128), dice.randrange(1, 1 << 64)
        self.trace, self.span = f"{trace:032x}", f"{span:016x}"
        head += f"traceparent: 00-{self.trace}-{self.span}-01\r\n"
        self.expected, self.bodiless = int(status or 200), method == "HEAD"
        self.wire.send(head.encode() + b"\r\n" + body)

    def take(self):
        """Reads its answer; True where the connection stays."""
        got, closing = self.wire.http_answer(self.bodiless)
        if got != self.expected:
            raise OSError(f"status {got}")
        return not closing


class Redis:
    KINDS = {"get": 50, "set": 20, "incr": 8, "hash": 10, "list": 8, "mget": 4}

    def __init__(self, host, port):
        self.wire = wire.Redis(host, port, TIMEOUT)

    def ask(self, what, dice, last):
        key = f"key:{dice.randrange(500)}"
        ask = self.wire.ask
        if what == "get":
            ask("GET", key)
        elif what == "set":
            ask("SET", key, "v" * dice.choice([20, 200, 4000]))
        elif what == "incr":
            ask("INCR", f"count:{dice.randrange(20)}")
        elif what == "hash":
            ask("HSET", f"hash:{dice.randrange(50)}", f"f{dice.randrange(9)}", "v")
        elif what == "list":
            ask("LPUSH", "list", "v")
            ask("LTRIM", "list", "0", "99")
        else:
            ask("MGET", *[f"key:{dice.randrange(500)}" for _ in range(8)])
        return True


class Memcached:
    KINDS = {"get": 60, "set": 25, "delete": 5, "multi": 10}

    def __init__(self, host, port):
        self.wire = wire.Wire(host, port, TIMEOUT)

    def ask(self, what, dice, last):
        key = f"key{dice.randrange(500)}"
        if what == "set":
            value = "v" * dice.choice([20, 200, 4000])
            self.wire.send(f"set {key} 0 0 {len(value)}\r\n{value}\r\n".encode())
            if self.wire.line() != b"STORED":
                raise OSError("not stored")
            return True
        if what == "delete":
            self.wire.send(f"delete {key}\r\n".encode())
            self.wire.line()
            return True
        keys = [key]
        if what == "multi":
            keys = [f"key{dice.randrange(500)}" for _ in range(8)]
        self.wire.send(f"get {' '.join(keys)}\r\n".encode())
        while True:
            line = self.wire.line()
            if line == b"END":
                return True
            if not line.startswith(b"VALUE"):
                raise OSError(line.decode(errors="replace"))
            self.wire.take(int(line.split()[3]) + 2)


class Postgres:
    KINDS = {"read": 50, "range": 15, "write": 20, "add": 10, "count": 5}

    def __init__(self, host, port):
        self.wire = wire.Postgres(host, port, TIMEOUT, "postgres", "postgres")

    def ask(self, what, dice, last):
        item = dice.randrange(1, 2001)
        query = {
            "read": f"SELECT text FROM item WHERE id = {item}",
            "range": f"SELECT id, n FROM item WHERE id BETWEEN {item} AND {item + 40} ORDER BY n",
            "write": f"UPDATE item SET n = n + 1 WHERE id = {item}",
            "add": f"INSERT INTO entry (item, note) VALUES ({item}, repeat('n', 200))",
            "count": "SELECT count(*) FROM item WHERE n > 3",
        }[what]
        self.wire.query(query)
        return True


PROTOCOLS = {"http": Http, "redis": Redis, "memcached": Memcached, "postgres": Postgres}


class Tally:
    """What became of the requests of a second."""

    def __init__(self):
        self.lock = threading.Lock()
        self.clear()

    def clear(self):
        self.times, self.failed, self.failed_since = [], 0, None

    def add(self, ok, sent, took):
        with self.lock:
            if ok:
                self.times.append(took)
            else:
                self.failed += 1
                self.failed_since = min(sent, self.failed_since or sent)

    def line(self):
        with self.lock:
            times = sorted(self.times)
            line = {"t": time.time(), "ok": len(times), "failed": self.failed}
            if times:
                line["p50_ms"] = round(1000 * times[len(times) // 2], 3)
                line["p95_ms"] = round(1000 * times[int(len(times) * 0.95)], 3)
            line["failed_since"] = self.failed_since
            self.clear()
        return json.dumps(line)


class Requests:
    """What became of each request that has a trace."""

    def __init__(self):
        folder = os.environ.get("LAB_LOGS")
        self.lock = threading.Lock()
        self.file = open(f"{folder}/requests.jsonl", "a", buffering=1) if folder else None

    def add(self, session, ok, sent, took):
        if self.file is None or getattr(session, "trace", None) is None:
            return
        of = {"trace": session.trace, "span": session.span, "what": session.what, "ok": ok}
        line = json.dumps(of | {"sent": sent, "took": took}) + "\n"
        with self.lock:
            self.file.write(line)


def client(number, due, tally, requests, make, kinds):
    dice = random.Random(f"{os.environ.get('LAB_SEED', '0')} {number}")
    names, weights = list(kinds), list(kinds.values())
    session, left = None, 0
    while True:
        when = due.get()
        if time.time() - when > PATIENCE:
            tally.add(False, when, 0)
            continue
        sent = time.time()
        if session is not None and session.wire.is_over():
            session.wire.close()
            session = None
        try:
            if session is None:
                session = make()
                left = 1 if dice.random() < 0.2 else dice.randrange(2, 120)
            left -= 1
            what = dice.choices(names, weights)[0]
            keep = session.ask(what, dice, left == 0)
            tally.add(True, sent, time.time() - sent)
            requests.add(session, True, sent, time.time() - sent)
            if not keep or left == 0:
                session.wire.close()
                session = None
        except (OSError, ValueError) as error:
            failed(session, sent, tally, requests, error)
            session = None


def crowd(size, rate, tally, requests, make, kinds):
    """Requests that come many at once."""
    dice = random.Random(os.environ.get("LAB_SEED", "0"))
    names, weights = list(kinds), list(kinds.values())
    sessions = [None] * size
    while True:
        began, scale = time.time(), factor()
        under_way = []
        for at in range(size if scale > 0 else 0):
            sent = time.time()
            try:
                if sessions[at] is None:
                    sessions[at] = make()
                sessions[at].put(dice.choices(names, weights)[0], dice, False)
                under_way.append((at, sent))
            except (OSError, ValueError) as error:
                failed(sessions[at], sent, tally, requests, error)
                sessions[at] = None
        for at, sent in under_way:
            try:
                keep = sessions[at].take()
                took = time.time() - sent
                tally.add(True, sent, took)
                requests.add(sessions[at], True, sent, took)
                if not keep:
                    sessions[at].wire.close()
                    sessions[at] = None
            except (OSError, ValueError) as error:
                failed(sessions[at], sent, tally, requests, error)
                sessions[at] = None
        pause = size / (rate * scale) if scale > 0 else 0.1
        time.sleep(max(0.0, began + pause * dice.uniform(0.8, 1.2) - time.time()))


def failed(session, sent, tally, requests, error):
    """Counts a request that failed; its session, if there is one, is over."""
    tally.add(False, sent, 0)
    requests.add(session, False, sent, time.time() - sent)
    print(f"{time.time():.3f} {error!r}", file=sys.stderr)
    if session is not None:
        session.wire.close()


def factor():
    try:
        with open(os.environ["LAB_FACTOR"]) as file:
            return float(file.read())
    except (OSError, ValueError, KeyError):
        return 1.0


def main():
    protocol = PROTOCOLS[sys.argv[1]]
    kinds = dict(getattr(protocol, "KINDS", {}))
    if sys.argv[2:]:
        kinds = {what: int(weight) for what, _, weight in (a.rpartition("=") for a in sys.argv[2:])}
    host, port = os.environ["LAB_TARGET"].rsplit(":", 1)
    rate = float(os.environ.get("LAB_RATE", "40"))
    dice = random.Random(os.environ.get("LAB_SEED", "0"))
    due, tally, requests = queue.Queue(), Tally(), Requests()
    make = lambda: protocol(host, int(port))
    size = int(os.environ.get("LAB_CROWD", "0"))
    if size and protocol is not Http:
        sys.exit("LAB_CROWD: only of http")
    for number in range(0 if size else CLIENTS):
        arguments = (number, due, tally, requests, make, kinds)
        threading.Thread(target=client, args=arguments, daemon=True).start()

    def report():
        while True:
            time.sleep(1)
            print(tally.line(), flush=True)

    threading.Thread(target=report, daemon=True).start()
    if size:
        crowd(size, rate, tally, requests, make, kinds)
    next_one, scale, looked = time.time(), 1.0, 0.0
    while True:
        if time.time() - looked > 0.25:
            scale, looked = factor(), time.time()
        if scale <= 0:
            time.sleep(0.1)
            next_one = time.time()
            continue
        next_one += dice.expovariate(rate * scale)
        while (left := next_one - time.time()) > 0:
            time.sleep(min(left, 0.25))
            if left > 0.25 and factor() != scale:
                next_one = time.time()
        due.put(next_one)


if __name__ == "__main__":
    main()
