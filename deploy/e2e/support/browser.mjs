// Headless Chromium, as the system has it installed.
import { existsSync } from "node:fs";
import { delimiter, join } from "node:path";

import { chromium } from "playwright-core";

import { PATIENCE, until } from "./wait.mjs";

const FLAGS = [
  "--no-sandbox",
  "--disable-gpu",
  "--disable-quic",
  "--no-first-run",
  "--disable-background-networking",
  "--disable-component-update",
  "--disable-sync",
];

function executable() {
  if (process.env.CHROMIUM) return process.env.CHROMIUM;
  const found = process.env.PATH.split(delimiter).map((folder) => join(folder, "chromium")).find(existsSync);
  if (!found) throw new Error("no chromium in PATH; `make setup` installs it, CHROMIUM names another one");
  return found;
}

/** Starts a browser with a new, empty profile. */
export function startBrowser() {
  return chromium.launch({ executablePath: executable(), headless: true, args: FLAGS, timeout: 60_000 });
}

/** Opens a page, which can call `functions`. What it complains about is kept in `page.complaints`. */
export async function openPage(t, browser, url, functions = {}) {
  const context = await browser.newContext();
  t.after(() => context.close());
  const page = await context.newPage();
  page.setDefaultTimeout(PATIENCE);
  page.complaints = [];
  page.on("pageerror", (error) => page.complaints.push(String(error)));
  page.on("console", (line) => {
    if (["error", "warning"].includes(line.type())) page.complaints.push(line.text());
  });
  for (const [name, call] of Object.entries(functions)) await page.exposeFunction(name, call);
  await page.goto(url);
  return page;
}

/** Asks a page until what it says is `wanted`; fails with what it said last. */
export async function untilPage(what, read, wanted) {
  let last;
  try {
    return await until(what, async () => wanted((last = await read())) && [last]).then(([value]) => value);
  } catch (error) {
    throw new Error(`${error.message}; last seen: ${JSON.stringify(last)}`, { cause: error });
  }
}
