// Cursors as a client writes them, with the code that the user's documentation gives.
import { readFileSync } from "node:fs";

const page = readFileSync(new URL("../../../docs/sse-and-polling.md", import.meta.url), "utf8");
const [, code] = /```js\n(function channelHash.*?)```/s.exec(page);

/** The hash of a channel in a cursor. */
export const channelHash = new Function(`${code}; return channelHash;`)();

/** The cursor of channels, given as [name, epoch, offset], which come in byte order of the names. */
export const cursorOf = (...items) => "2" + items.map(([name, epoch, offset]) => `~${channelHash(name)}${epoch}.${offset}`).join("");
