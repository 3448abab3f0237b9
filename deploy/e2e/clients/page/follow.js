// Event-stream clients of browsers. `note(kind, value)` is the test's journal: `opened` for each call of onopen, every event
// by its name, and the end of a connection.
import { fetchEventSource } from "/node_modules/@microsoft/fetch-event-source/lib/esm/index.js";

const { note } = window;
const event = ({ data, lastEventId }) => ({ data, id: lastEventId });
const bearer = (token) => ({ Authorization: `Bearer ${token}` });

/** Notes the events of an EventSource; `stopped` turns its error event into a note. */
function follow(source, stopped) {
  source.onopen = () => note("opened", {});
  for (const name of ["message", "ready", "gap", "auth_expiring", "disconnect"]) {
    source.addEventListener(name, (one) => note(name, event(one)));
  }
  source.onerror = (error) => note(...stopped(error));
}

window.follow = {
  native(url, token) {
    const source = new EventSource(`${url}&token=${token}`);
    follow(source, () => [source.readyState === EventSource.CLOSED ? "stopped" : "interrupted", {}]);
  },

  polyfill(url, token) {
    const source = new window.EventSourcePolyfill(url, { headers: bearer(token) });
    follow(source, ({ error }) => (error ? ["broken", { error: String(error) }] : ["ended", {}]));
  },

  fetchEventSource(url, token) {
    fetchEventSource(url, {
      headers: bearer(token),
      async onopen(response) {
        if (!response.ok) throw new Error(`status ${response.status}`);
        note("opened", {});
      },
      onmessage: (one) => note(one.event || "message", { data: one.data, id: one.id }),
      // By default the library stops at an orderly end; throwing is its documented way to reconnect.
      onclose() {
        note("ended", {});
        throw new Error("ended");
      },
      onerror(error) {
        if (error.message !== "ended") note("broken", { error: String(error) });
      },
    });
  },
};
