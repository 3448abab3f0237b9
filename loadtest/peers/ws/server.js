// Channels over plain WebSockets with `ws`, as its documentation shows broadcasting and keep-alive.
//
//   ws://.../sub/<channel>         receives the channel's publications as text
//   POST http://.../pub/<channel>  publishes the body
//
// It listens on 127.0.0.1:$PORT, logs nothing, and keeps no history.
"use strict";

const http = require("node:http");
const { WebSocket, WebSocketServer } = require("ws");

const PING_EVERY = 25_000;
const MAX_BODY = 1024 * 1024;

const channels = new Map();

const server = http.createServer((request, response) => {
  if (request.method !== "POST" || !request.url.startsWith("/pub/")) {
    response.writeHead(404).end("{}");
    return;
  }
  const channel = request.url.slice("/pub/".length);
  const parts = [];
  let length = 0;
  request.on("data", (part) => {
    length += part.length;
    if (length > MAX_BODY) request.destroy();
    else parts.push(part);
  });
  request.on("end", () => {
    const data = Buffer.concat(parts, length);
    for (const client of channels.get(channel) ?? []) {
      if (client.readyState === WebSocket.OPEN) client.send(data, { binary: false });
    }
    response.end("{}");
  });
});
server.keepAliveTimeout = 300_000;

const sockets = new WebSocketServer({ server, perMessageDeflate: false, clientTracking: false });
sockets.on("connection", (client, request) => {
  const channel = request.url.slice("/sub/".length);
  if (!channels.has(channel)) channels.set(channel, new Set());
  const members = channels.get(channel);
  members.add(client);
  client.isAlive = true;
  client.on("pong", () => (client.isAlive = true));
  client.on("error", () => client.terminate());
  client.on("close", () => {
    members.delete(client);
    if (members.size === 0) channels.delete(channel);
  });
});

setInterval(() => {
  for (const members of channels.values()) {
    for (const client of members) {
      if (!client.isAlive) {
        client.terminate();
        continue;
      }
      client.isAlive = false;
      client.ping();
    }
  }
}, PING_EVERY);

server.listen({ port: Number(process.env.PORT), host: "127.0.0.1", backlog: 4096 });
process.on("SIGTERM", () => process.exit(0));
