// Files from the working folder, and what is posted.
const http = require("http");
const fs = require("fs");
const path = require("path");

const server = http.createServer((request, response) => {
  if (request.method === "POST") {
    const parts = [];
    request.on("data", (part) => parts.push(part));
    request.on("end", () => {
      const body = Buffer.concat(parts);
      response.writeHead(200, { "Content-Length": body.length });
      response.end(body);
    });
    return;
  }
  fs.readFile(path.join(".", path.basename(request.url)), (error, body) => {
    const answer = error ? Buffer.from("not found") : body;
    response.writeHead(error ? 404 : 200, { "Content-Length": answer.length });
    response.end(request.method === "HEAD" ? undefined : answer);
  });
});
server.listen(Number(process.argv[2]), "127.0.0.1");
