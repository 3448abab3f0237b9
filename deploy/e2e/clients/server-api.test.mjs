// Libraries for the server API against a node: one test for each, which runs a suite in the library's own language.
import assert from "node:assert/strict";
import { dirname, join } from "node:path";
import test from "node:test";
import { fileURLToPath } from "node:url";

import { API_KEY, joined, startNode } from "../support/node.mjs";
import { folder, Process } from "../support/process.mjs";
import { startRedis } from "../support/redis.mjs";

const HERE = dirname(fileURLToPath(import.meta.url));
const PYTHON = process.env.PYTHON ?? "python3";

/** The deadline of a suite, in milliseconds; Go compiles first, which takes long on a busy machine. */
const PATIENCE = 120_000;

async function run(t, command, args) {
  const node = await startNode(t, joined(await startRedis(t)));
  const environment = { FANWAY_URL: node.url, FANWAY_API_KEY: API_KEY, PYTHONDONTWRITEBYTECODE: "1" };
  const suite = new Process(t, join(folder(t), "suite.log"), command, args, { environment });
  const { code, error } = await suite.exited(PATIENCE);
  assert.equal(code, 0, error ? String(error) : suite.log);
  return suite.log;
}

test("cent (Python)", { timeout: PATIENCE + 30_000 }, async (t) => {
  const log = await run(t, PYTHON, [join(HERE, "python/server_api.py")]);
  assert.match(log, /^OK$/m);
});

test("gocent v3 (Go)", { timeout: PATIENCE + 30_000 }, async (t) => {
  const log = await run(t, "go", ["-C", join(HERE, "gocent"), "test", "-count=1", "./..."]);
  assert.match(log, /^ok/m);
});
