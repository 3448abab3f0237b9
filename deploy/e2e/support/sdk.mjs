// The official SDK, unmodified, with a journal of what it tells its application.
import { Centrifuge } from "centrifuge";
import { Centrifuge as ProtobufCentrifuge } from "centrifuge/build/protobuf";
import WebSocket from "ws";

import { mint } from "./token.mjs";
import { Journal } from "./wait.mjs";

/** A client that is not yet connected. `at` has a `websocketUrl`: a node or a door. */
export function client(t, at, options = {}) {
  return sdkClient(t, Centrifuge, at, options);
}

/** The same of the SDK's build for protobuf. */
export function protobufClient(t, at, options = {}) {
  return sdkClient(t, ProtobufCentrifuge, at, options);
}

function sdkClient(t, Sdk, at, options) {
  const sdk = new Sdk(at.websocketUrl, {
    websocket: WebSocket,
    token: mint(),
    minReconnectDelay: 50,
    maxReconnectDelay: 500,
    ...options,
  });
  t.after(() => sdk.disconnect());
  const kinds = ["connecting", "connected", "disconnected", "error", "subscribed", "publication"];
  return { sdk, journal: journalOf(sdk, kinds) };
}

/** A client that is connected. */
export async function connected(t, at, options) {
  const one = client(t, at, options);
  one.sdk.connect();
  one.greeting = await one.journal.next("connected");
  return one;
}

/** A subscription with its journal, not yet subscribed. */
export function subscription(sdk, channel, options) {
  return journaled(sdk.newSubscription(channel, options));
}

/** A subscription of any kind with its journal. */
export function journaled(sub) {
  const kinds = ["subscribing", "subscribed", "unsubscribed", "publication", "error"];
  return { sub, journal: journalOf(sub, kinds) };
}

/** A subscription that is subscribed. */
export async function subscribed(sdk, channel, options) {
  const one = subscription(sdk, channel, options);
  one.sub.subscribe();
  one.reply = await one.journal.next("subscribed");
  return one;
}

function journalOf(source, kinds) {
  const journal = new Journal();
  for (const kind of kinds) source.on(kind, (context) => journal.note(kind, context));
  return journal;
}

/** A WebSocket for the SDK that shows its frames to the test: `seen(direction, text)`; false keeps a sent one back. */
export function watched(seen) {
  return class extends WebSocket {
    constructor(...args) {
      super(...args);
      this.addEventListener("message", (event) => seen("in", event.data));
    }

    send(text, ...rest) {
      if (seen("out", text) !== false) super.send(text, ...rest);
    }
  };
}

/** A WebSocket for the SDK that counts how many were opened. */
export function counted() {
  const sockets = { opened: 0 };
  sockets.websocket = class extends WebSocket {
    constructor(...args) {
      super(...args);
      sockets.opened += 1;
    }
  };
  return sockets;
}

/** The data of publications. */
export const data = (publications) => publications.map((publication) => publication.data);
