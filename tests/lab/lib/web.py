#!/usr/bin/python3
"""A small HTTP server for applications to ask: web.py PORT. `/N` answers with N bytes."""

import asyncio
import sys


async def serve(reader, writer):
    try:
        while line := await reader.readline():
            path, length, closing = line.split()[1].decode(), 0, False
            while (header := (await reader.readline()).lower()) not in (b"\r\n", b""):
                if header.startswith(b"content-length:"):
                    length = int(header.split(b":")[1])
                closing = closing or header.startswith(b"connection: close")
            await reader.readexactly(length)
            digits = "".join(c for c in path if c.isdigit())
            size = min(int(digits or 300), 400000)
            head = f"HTTP/1.1 200 OK\r\nContent-Length: {size}\r\n"
            head += "Connection: close\r\n" if closing else ""
            writer.write(head.encode() + b"\r\n" + b"w" * size)
            await writer.drain()
            if closing:
                break
    except (ConnectionError, asyncio.IncompleteReadError, ValueError, IndexError):
        pass
    writer.close()


async def main():
    server = await asyncio.start_server(serve, "0.0.0.0", int(sys.argv[1]))
    await server.serve_forever()


asyncio.run(main())
