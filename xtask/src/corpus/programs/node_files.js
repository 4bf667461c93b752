// Files as streams, what is posted as its digest, a page that is made; a timer that writes a file.
const http = require("http");
const fs = require("fs");
const path = require("path");
const crypto = require("crypto");

let answered = 0;
const answer = (response, status, text) => {
  response.writeHead(status, { "Content-Type": "text/plain" });
  response.end(text);
};
http
  .createServer((request, response) => {
    answered += 1;
    if (request.method === "POST") {
      const digest = crypto.createHash("sha256");
      request.on("data", (part) => digest.update(part));
      request.on("end", () => answer(response, 200, digest.digest("hex")));
      return;
    }
    const name = path.join(".", path.basename(request.url));
    fs.stat(name, (error, found) => {
      if (error) return answer(response, 404, "not found");
      response.writeHead(200, { "Content-Length": found.size });
      if (request.method === "HEAD") return response.end();
      fs.createReadStream(name).pipe(response);
    });
  })
  .listen(Number(process.argv[2]), "127.0.0.1");
setInterval(() => fs.writeFile("answered", `${answered}\n`, () => {}), 1000);
