// The event-stream clients under test, unmodified. `open` follows a stream, reconnecting by the library's own means where it
// has some, and returns a journal: `opened` (the library's onopen), every event by its name, and the end of a connection:
// `ended` in good order, `broken`, or `interrupted` where the library does not say which; `stopped` if it will not reconnect.
// `stops`: it follows the standard in that 204 stops it.
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

import { EventSource } from "eventsource";

import { openPage } from "../support/browser.mjs";
import { folder, Process } from "../support/process.mjs";
import { mint } from "../support/token.mjs";
import { Journal } from "../support/wait.mjs";

const HERE = dirname(fileURLToPath(import.meta.url));
const PYTHON = process.env.PYTHON ?? "python3";

// The request's last event id: browsers and libraries send a header, the polyfill a parameter.
const HEADER = /^last-event-id: *(.*?)\r?$/im;
const QUERY = /^GET \S*[?&]lastEventId=([^& ]*)/;

export const clients = [
  ...["sseclient-py", "requests", "httpx-sse", "aiohttp"].map((library) => ({
    name: `${library} (Python)`,
    open: (t, url) => followInPython(t, library, url),
    position: HEADER,
  })),
  { name: "eventsource (npm)", open: followInNode, position: HEADER, stops: true },
  { name: "native EventSource (Chromium)", open: inPage("native"), position: HEADER, stops: true },
  { name: "event-source-polyfill (Chromium)", open: inPage("polyfill"), position: QUERY },
  { name: "@microsoft/fetch-event-source (Chromium)", open: inPage("fetchEventSource"), position: HEADER },
];

async function followInPython(t, library, url) {
  const journal = new Journal();
  const onLine = (line) => {
    const { kind, value } = JSON.parse(line);
    journal.note(kind, value);
  };
  const program = [join(HERE, "python/streams.py"), library, url, mint()];
  new Process(t, join(folder(t), "streams.log"), PYTHON, program, { onLine });
  return journal;
}

async function followInNode(t, url) {
  const journal = new Journal();
  const headers = { Authorization: `Bearer ${mint()}` };
  const source = new EventSource(url, {
    fetch: (input, init) => fetch(input, { ...init, headers: { ...init.headers, ...headers } }),
  });
  t.after(() => source.close());
  source.onopen = () => journal.note("opened", {});
  for (const name of ["message", "ready", "gap", "auth_expiring", "disconnect"]) {
    source.addEventListener(name, ({ data, lastEventId }) => journal.note(name, { data, id: lastEventId }));
  }
  // Node's fetch takes any end of an answer with `Connection: close` for an orderly one.
  source.onerror = ({ code, message }) => {
    const stopped = source.readyState === EventSource.CLOSED;
    journal.note(stopped ? "stopped" : "interrupted", { code, message });
  };
  return journal;
}

/** Runs a client of `page/follow.js`, by its name there. */
function inPage(which) {
  return async (t, url, { browser, origin }) => {
    const journal = new Journal();
    const page = await openPage(t, browser, origin, { note: (kind, value) => journal.note(kind, value) });
    await page.evaluate(([which, ...args]) => window.follow[which](...args), [which, url, mint()]);
    return journal;
  };
}
