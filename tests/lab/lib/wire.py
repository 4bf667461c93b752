"""Small clients of HTTP, redis and PostgreSQL on plain sockets."""

import select
import socket
import struct


class Wire:
    def __init__(self, host, port, timeout):
        self.socket = socket.create_connection((host, port), timeout=timeout)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.kept = b""

    def send(self, data):
        self.socket.sendall(data)

    def close(self):
        self.socket.close()

    def is_over(self):
        """The other side closed it between two requests, as servers do with connections that are idle."""
        return not self.kept and bool(select.select([self.socket], [], [], 0)[0])

    def _more(self):
        data = self.socket.recv(65536)
        if not data:
            raise ConnectionError("closed by the other side")
        self.kept += data

    def line(self):
        while b"\r\n" not in self.kept:
            self._more()
        line, _, self.kept = self.kept.partition(b"\r\n")
        return line

    def take(self, length):
        while len(self.kept) < length:
            self._more()
        data, self.kept = self.kept[:length], self.kept[length:]
        return data

    def http_answer(self, bodiless=False):
        """Status, and whether the connection ends."""
        status = int(self.line().split()[1])
        length, closing, chunked = 0, False, False
        while line := self.line().lower():
            name, _, value = line.partition(b":")
            if name == b"content-length":
                length = int(value)
            elif name == b"connection":
                closing = value.strip() == b"close"
            elif name == b"transfer-encoding":
                chunked = value.strip() == b"chunked"
        self.body = b""
        if bodiless:
            return status, closing
        if not chunked:
            self.body = self.take(length)
        while chunked:
            size = int(self.line(), 16)
            self.body += self.take(size)
            self.line()
            if size == 0:
                break
        return status, closing


class Redis(Wire):
    def ask(self, *words):
        parts = [b"*%d\r\n" % len(words)]
        for word in words:
            word = word.encode() if isinstance(word, str) else word
            parts.append(b"$%d\r\n%s\r\n" % (len(word), word))
        self.send(b"".join(parts))
        return self._answer()

    def _answer(self):
        line = self.line()
        kind, rest = line[:1], line[1:]
        if kind == b"-":
            raise OSError(rest.decode())
        if kind == b"$":
            return None if rest == b"-1" else self.take(int(rest) + 2)[:-2]
        if kind == b"*":
            return [self._answer() for _ in range(int(rest))]
        return rest


class Postgres(Wire):
    def __init__(self, host, port, timeout, user, database):
        super().__init__(host, port, timeout)
        words = f"user\0{user}\0database\0{database}\0\0".encode()
        self.send(struct.pack("!ii", len(words) + 8, 196608) + words)
        self._until_ready()

    def query(self, text):
        """Rows as lists of texts."""
        words = text.encode() + b"\0"
        self.send(b"Q" + struct.pack("!i", len(words) + 4) + words)
        return self._until_ready()

    def _until_ready(self):
        rows, error = [], None
        while True:
            kind = self.take(1)
            (length,) = struct.unpack("!i", self.take(4))
            body = self.take(length - 4)
            if kind == b"Z":
                if error:
                    raise OSError(error)
                return rows
            if kind == b"E":
                error = body.replace(b"\0", b" ").decode(errors="replace")
                if b"FATAL" in body:
                    raise OSError(error)
            elif kind == b"D":
                rows.append(self._row(body))

    @staticmethod
    def _row(body):
        (count,) = struct.unpack("!h", body[:2])
        at, row = 2, []
        for _ in range(count):
            (length,) = struct.unpack("!i", body[at : at + 4])
            at += 4
            if length < 0:
                row.append(None)
                continue
            row.append(body[at : at + length].decode())
            at += length
        return row
