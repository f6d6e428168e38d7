// WebSockets by npm's `ws`. `serve`: echoes what it gets, and prints its port. `ask URL`: what a client of it sees, as JSON.

import { WebSocket, WebSocketServer } from "ws";

const [verb, url] = process.argv.slice(2);

if (verb === "serve") {
  process.stdin.resume().on("end", () => process.exit(0)); // It ends with who started it.
  const server = new WebSocketServer({ host: "127.0.0.1", port: 0, perMessageDeflate: true, maxPayload: 64 << 20, handleProtocols: (names) => (names.has("chat.v2") ? "chat.v2" : false) });
  server.on("listening", () => console.log(server.address().port));
  server.on("connection", (socket) => {
    socket.on("message", (data, isBinary) => {
      const text = isBinary ? "" : data.toString();
      if (text.startsWith("close ")) socket.close(Number(text.split(" ")[1]), text.split(" ").slice(2).join(" "));
      else if (text === "die") socket.terminate();
      else if (text === "ping") socket.ping("hello");
      else socket.send(data, { binary: isBinary });
    });
    socket.on("pong", (data) => socket.send(`pong ${data}`));
  });
} else {
  const seen = { pongs: [] };
  const socket = new WebSocket(url, ["chat.v1", "chat.v2"], { perMessageDeflate: true, maxPayload: 64 << 20 });
  const heard = [];
  let wake = () => {};
  const next = async () => {
    while (heard.length === 0) await new Promise((resolve) => (wake = resolve));
    return heard.shift();
  };
  socket.on("message", (data, isBinary) => (heard.push(isBinary ? data : data.toString()), wake()));
  socket.on("pong", (data) => seen.pongs.push(data.toString()));
  socket.on("close", (code, reason) => {
    console.log(JSON.stringify({ ...seen, close: [code, reason.toString()] }));
    process.exit(0);
  });
  socket.on("error", (why) => (console.log(JSON.stringify({ ...seen, error: String(why) })), process.exit(1)));
  await new Promise((resolve) => socket.on("open", resolve));
  seen.protocol = socket.protocol;
  seen.extensions = socket.extensions;
  // A message in three frames, with a ping between them.
  socket.send("one ", { fin: false });
  socket.ping("between");
  socket.send("two ", { fin: false });
  socket.send("three", { fin: true });
  seen.pieces = await next();
  const large = Buffer.alloc(16 << 20);
  for (let at = 0; at < large.length; at += 4) large.writeUInt32LE((at * 2654435761) >>> 0, at);
  socket.send(large);
  seen.large = large.equals(await next());
  socket.send("ping");
  seen.asked = await next();
  socket.send("");
  seen.empty = await next();
  socket.send("close 4321 until later");
}
