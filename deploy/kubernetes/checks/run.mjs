// Runs the checks in the order of their names and prints a table of what they saw. Exits with 1 if anything was not as it
// must be. Arguments choose checks by the beginning of their names.
import { readdirSync } from "node:fs";

import { prepare } from "./fleet.mjs";

class Table {
  rows = [];

  /** What failed, if anything did: how often what, and when first, as nobody can tell afterwards. */
  failures(what, list) {
    this.row(what, list.length, list.length === 0);
    for (const [name, some] of group(list)) this.row(`... ${name}`, `${some.length}, from ${new Date(some[0].at).toISOString()} on`, false);
  }

  row(what, saw, fine) {
    this.rows.push({ what, saw: String(saw), fine });
    console.error(`  ${fine ? "ok  " : "FAIL"}  ${what}: ${saw}`);
  }
}

const kind = ({ transport, what }) => [transport, what].filter(Boolean).join(": ");

function group(list) {
  const kinds = new Map();
  for (const one of list) kinds.set(kind(one), [...(kinds.get(kind(one)) ?? []), one]);
  return kinds;
}

const wanted = process.argv.slice(2);
const names = readdirSync(new URL(".", import.meta.url))
  .filter((name) => /^\d+-.*\.mjs$/.test(name))
  .filter((name) => wanted.length === 0 || wanted.some((prefix) => name.startsWith(prefix)))
  .sort();
const sections = [];
await prepare();
for (const name of names) {
  const { title, default: check } = await import(new URL(name, import.meta.url));
  console.error(`${title}`);
  const table = new Table();
  const began = Date.now();
  try {
    await check(table);
  } catch (error) {
    table.row("the check itself", `${error.stderr || error.stack || error}`.trim(), false);
  }
  sections.push({ title, table, seconds: Math.round((Date.now() - began) / 1000) });
}

const width = Math.max(...sections.flatMap(({ table }) => table.rows.map(({ what }) => what.length)));
console.log();
for (const { title, table, seconds } of sections) {
  console.log(`${title} (${seconds} s)`);
  for (const { what, saw, fine } of table.rows) console.log(`  ${fine ? "ok  " : "FAIL"}  ${what.padEnd(width)}  ${saw}`);
}
const failed = sections.flatMap(({ table }) => table.rows).filter(({ fine }) => !fine).length;
console.log(failed ? `\n${failed} not as it must be` : "\neverything as it must be");
process.exit(failed ? 1 : 0);
