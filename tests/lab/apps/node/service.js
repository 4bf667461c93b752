// Notes and sessions: HTTP on an event loop, redis and another service behind, files beside.
// `features.json` is read for every request, as switches of a deployment are.
const fs = require("fs");
const http = require("http");
const net = require("net");

const { PORT, WORK, DATA, REDIS_HOST, REDIS_PORT, GREETER_HOST, GREETER_PORT } = process.env;
const TIMEOUT = 2000;
const kept = [];
let redis = null;

class Redis {
  constructor() {
    this.waiting = [];
    this.kept = "";
    this.socket = net.connect(REDIS_PORT, REDIS_HOST);
    this.socket.setNoDelay(true);
    this.socket.setTimeout(TIMEOUT, () => this.end(new Error("time-out")));
    this.socket.on("data", (data) => this.take(data.toString("latin1")));
    this.socket.on("error", (error) => this.end(error));
    this.socket.on("close", () => this.end(new Error("closed")));
  }

  end(error) {
    if (redis === this) redis = null;
    this.socket.destroy();
    for (const one of this.waiting.splice(0)) one.reject(error);
  }

  ask(...words) {
    const parts = words.map((word) => `$${Buffer.byteLength(word)}\r\n${word}\r\n`);
    return new Promise((resolve, reject) => {
      this.waiting.push({ resolve, reject });
      this.socket.write(`*${words.length}\r\n${parts.join("")}`);
    });
  }

  take(text) {
    this.kept += text;
    for (;;) {
      const end = this.kept.indexOf("\r\n");
      if (end < 0) return;
      let answer = this.kept.slice(1, end);
      let used = end + 2;
      if (this.kept[0] === "$" && answer !== "-1") {
        used += Number(answer) + 2;
        if (this.kept.length < used) return;
        answer = this.kept.slice(end + 2, used - 2);
      }
      this.kept = this.kept.slice(used);
      const one = this.waiting.shift();
      if (one) one.resolve(answer);
    }
  }
}

async function session(number, on) {
  if (!on.keep_alive || !redis) {
    if (redis) redis.end(new Error("not kept"));
    redis = new Redis();
  }
  const found = await redis.ask("GET", `session:${number}`);
  if (found === "-1") await redis.ask("SETEX", `session:${number}`, "30", "s".repeat(200));
  return found;
}

const agent = new http.Agent({ keepAlive: true, maxSockets: 8 });

function greet(number, on) {
  const options = { host: GREETER_HOST, port: GREETER_PORT, path: `/${300 + Number(number)}` };
  return new Promise((resolve, reject) => {
    const asked = http.get({ ...options, agent: on.keep_alive ? agent : false, timeout: TIMEOUT });
    asked.on("timeout", () => asked.destroy(new Error("time-out")));
    asked.on("error", reject);
    asked.on("response", (answer) => {
      let length = 0;
      answer.on("data", (data) => (length += data.length));
      answer.on("end", () => resolve(String(length)));
      answer.on("error", reject);
    });
  });
}

async function page(number) {
  return fs.promises.readFile(`${WORK}/pages/page${number}`, "utf8");
}

async function note(body) {
  const file = await fs.promises.open(`${DATA}/note-${JSON.parse(body).item}`, "w");
  try {
    await file.write(body);
    await file.sync();
  } finally {
    await file.close();
  }
  return "noted";
}

async function work(request, body) {
  const on = JSON.parse(await fs.promises.readFile(`${WORK}/features.json`, "utf8"));
  for (let n = 0; n < on.fd_leak; n++) kept.push(await fs.promises.open("/dev/null"));
  if (on.memory_leak_kb) kept.push(Buffer.alloc(on.memory_leak_kb * 1024, 1));
  const [, route, number] = request.url.split("/");
  if (request.method === "POST") return note(body);
  if (route === "session") return session(number, on);
  if (route === "greet") return greet(number, on);
  if (route === "page") return page(number);
  return null;
}

http
  .createServer((request, response) => {
    let body = "";
    request.on("data", (data) => (body += data));
    request.on("error", () => {});
    request.on("end", async () => {
      try {
        const text = await work(request, body);
        response.writeHead(text === null ? 404 : 200, { "Content-Type": "text/plain" });
        response.end(text || "");
      } catch (error) {
        console.error(`${request.url}: ${error}`);
        response.writeHead(500);
        response.end(String(error));
      }
    });
  })
  .listen(PORT, "0.0.0.0", 128);
