// What Node.js reads in the bytes that Tidegate sent: a line of JSON for each request, on standard output.
import http from "node:http";
import net from "node:net";
import { readFileSync, writeSync } from "node:fs";

const found = [];
const server = http.createServer((request, response) => {
  const pieces = [];
  request.on("data", (piece) => pieces.push(piece));
  request.on("end", () => {
    found.push({ method: request.method, target: request.url, headers: request.rawHeaders, body: Buffer.concat(pieces).toString("latin1") });
    response.end();
  });
});
server.on("clientError", (why, socket) => {
  found.push({ error: why.code ?? String(why) });
  socket.destroy();
});
server.listen(0, "127.0.0.1", async () => {
  for (const bytes of JSON.parse(readFileSync(0, "utf8"))) {
    await new Promise((done) => {
      const socket = net.connect(server.address().port, "127.0.0.1", () => socket.end(Buffer.from(bytes, "latin1")));
      socket.resume();
      socket.on("close", done);
      socket.on("error", done);
    });
  }
  const line = Buffer.from(`${JSON.stringify(found)}\n`);
  for (let at = 0; at < line.length; ) at += writeSync(1, line, at);
  process.exit(0);
});
