// The same as `join-server`, on an event loop: `node join.js`.
'use strict';
const fs = require('fs');
const http = require('http');
const net = require('net');

function fail(what, number, done) {
  const address = `127.${(number >> 16) & 255}.${(number >> 8) & 255}.${number & 255}`;
  if (what === 'exchange') {
    const hex = (value, digits) => value.toString(16).padStart(digits, '0');
    const trace = hex(number, 8) + '5a'.repeat(12);
    const traceparent = `00-${trace}-${hex(number * 256 + 2, 16)}-01`;
    const socket = net.connect(Number(process.env.JOIN_DEPENDENCY), address);
    socket.on('connect', () => socket.write(
      `GET / HTTP/1.1\r\nHost: dependency\r\ntraceparent: ${traceparent}\r\n\r\n`));
    socket.on('error', done);
  } else if (what === 'connect') {
    const socket = net.connect(9, address);
    socket.on('error', done);
    socket.on('connect', () => socket.destroy());
  } else if (what === 'open') {
    try {
      fs.openSync(`/join/${number.toString(16)}`);
    } catch {
      done();
    }
  } else {
    fs.open(`/join/${number.toString(16)}`, () => done());
  }
}

const server = http.createServer((request, response) => {
  const [, what, number] = request.url.split('/');
  setTimeout(() => fail(what, parseInt(number, 16), () => {
    response.setHeader('Content-Length', 2);
    response.end('ok');
  }), 1);
});
server.keepAliveTimeout = 60000;
server.listen(0, '127.0.0.1', () => console.log(server.address().port));
