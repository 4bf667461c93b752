// The same as `join-server`, on an event loop: `node join.js`.
'use strict';
const fs = require('fs');
const http = require('http');
const net = require('net');

function fail(what, number, done) {
  if (what === 'connect') {
    const address = `127.${(number >> 16) & 255}.${(number >> 8) & 255}.${number & 255}`;
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
