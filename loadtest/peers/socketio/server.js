// Channels as Socket.IO rooms, WebSocket only, with its own memory adapter or, if $REDIS_URL is set, the Redis adapter.
//
//   emit("subscribe", channel, acknowledge)  joins the channel
//   event "publication" (channel, data)      is a publication
//   POST http://.../pub/<channel>            publishes the body, which is JSON
//
// It listens on 127.0.0.1:$PORT, logs nothing, and keeps no history. Tuned as its documentation recommends ("Performance
// tuning", "Memory usage"): bufferutil is there, no compression, the first HTTP request is let go.
"use strict";

const http = require("node:http");
const { Server } = require("socket.io");

const MAX_BODY = 1024 * 1024;

async function main() {
  const server = http.createServer();
  server.keepAliveTimeout = 300_000;
  const io = new Server({
    transports: ["websocket"],
    pingInterval: 25_000,
    perMessageDeflate: false,
    httpCompression: false,
    serveClient: false,
  });
  if (process.env.REDIS_URL) {
    const { createClient } = require("redis");
    const { createAdapter } = require("@socket.io/redis-adapter");
    const publisher = createClient({ url: process.env.REDIS_URL });
    const subscriber = publisher.duplicate();
    await Promise.all([publisher.connect(), subscriber.connect()]);
    io.adapter(createAdapter(publisher, subscriber));
  }
  // Before Socket.IO takes requests: it leaves alone what is not under its own path.
  server.on("request", (request, response) => {
    if (!request.url.startsWith("/pub/")) return;
    const channel = request.url.slice("/pub/".length);
    const parts = [];
    let length = 0;
    request.on("data", (part) => {
      length += part.length;
      if (length > MAX_BODY) request.destroy();
      else parts.push(part);
    });
    request.on("end", () => {
      io.to(channel).emit("publication", channel, JSON.parse(Buffer.concat(parts, length)));
      response.end("{}");
    });
  });
  io.attach(server);
  io.engine.on("connection", (socket) => {
    socket.request = null;
  });
  io.on("connection", (socket) => {
    socket.on("subscribe", (channel, acknowledge) => {
      socket.join(channel);
      acknowledge();
    });
  });
  server.listen({ port: Number(process.env.PORT), host: "127.0.0.1", backlog: 4096 });
}

process.on("SIGTERM", () => process.exit(0));
main().catch((error) => {
  console.error(error);
  process.exit(1);
});
