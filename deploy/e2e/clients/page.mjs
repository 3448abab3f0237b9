// A page of another origin than the nodes', as an application's is, with the npm packages of browsers.
import { once } from "node:events";
import { readFile } from "node:fs/promises";
import { createServer } from "node:http";
import { dirname, extname, join, normalize } from "node:path";
import { fileURLToPath } from "node:url";

const ROOT = normalize(join(dirname(fileURLToPath(import.meta.url)), ".."));
const PAGE = `<!doctype html><title>clients</title>
<script src="/node_modules/event-source-polyfill/src/eventsource.js"></script>
<script type="module" src="/clients/page/follow.js"></script>`;

/** Starts a server of the page and of the modules it imports. */
export async function servePage() {
  const server = createServer((request, response) => answer(request.url, response)).listen(0, "127.0.0.1");
  await once(server, "listening");
  return { origin: `http://127.0.0.1:${server.address().port}`, close: () => server.close() };
}

async function answer(path, response) {
  if (path === "/") return response.setHeader("Content-Type", "text/html").end(PAGE);
  // Some npm packages import their modules without the extension.
  const file = normalize(join(ROOT, extname(path) ? path : `${path}.js`));
  const script = file.startsWith(ROOT) && (await readFile(file).catch(() => undefined));
  if (!script) return response.writeHead(404).end();
  response.setHeader("Content-Type", "text/javascript").end(script);
}
