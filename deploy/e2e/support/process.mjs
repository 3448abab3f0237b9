// Child processes that do not outlive their test, nor this process, however either ends.
import { spawn } from "node:child_process";
import { once } from "node:events";
import { closeSync, mkdtempSync, openSync, readFileSync, rmSync } from "node:fs";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";

import { PATIENCE } from "./wait.mjs";

const running = new Set();
const folders = new Set();

process.once("exit", () => {
  for (const child of running) child.kill("SIGKILL");
  for (const folder of folders) rmSync(folder, { recursive: true, force: true });
});
for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"]) process.once(signal, () => process.exit(1));

/** A new folder, removed after the test. */
export function folder(t) {
  const path = mkdtempSync(join(tmpdir(), "fanway-e2e-"));
  folders.add(path);
  t.after(() => {
    folders.delete(path);
    rmSync(path, { recursive: true, force: true });
  });
  return path;
}

/** A port that nobody listens on at the moment. */
export async function freePort() {
  const server = createServer().listen(0, "127.0.0.1");
  await once(server, "listening");
  const { port } = server.address();
  server.close();
  await once(server, "close");
  return port;
}

/** A running command whose output goes to a file; with `onLine`, what it writes to stdout goes there instead, line by line. */
export class Process {
  #child;
  #logFile;
  #exited;

  constructor(t, logFile, command, args, { environment = {}, onLine } = {}) {
    this.#logFile = logFile;
    const log = openSync(logFile, "w");
    const stdio = ["ignore", onLine ? "pipe" : log, log];
    const child = spawn(command, args, { stdio, env: { ...process.env, ...environment } });
    closeSync(log);
    if (onLine) createInterface({ input: child.stdout }).on("line", onLine);
    this.#child = child;
    running.add(child);
    this.#exited = new Promise((resolve) => {
      const gone = (result) => {
        running.delete(child);
        resolve(result);
      };
      child.once("error", (error) => gone({ code: null, signal: null, error }));
      child.once("exit", (code, signal) => gone({ code, signal }));
    });
    t.after(() => this.kill());
  }

  get running() {
    return running.has(this.#child);
  }

  /** What it has printed. */
  get log() {
    return readFileSync(this.#logFile, "utf8");
  }

  /** Asks it to stop. */
  terminate() {
    this.#child.kill("SIGTERM");
  }

  /** Kills it and waits until it is gone. */
  async kill() {
    this.#child.kill("SIGKILL");
    return this.exited();
  }

  /** How it ended, once it has. */
  async exited(within = PATIENCE) {
    let timer;
    const late = new Promise((_, reject) => {
      timer = setTimeout(() => reject(new Error(`still running after ${within} ms:\n${this.log}`)), within);
    });
    return Promise.race([this.#exited, late]).finally(() => clearTimeout(timer));
  }
}

/** Starts what listens on a port: again on another one if somebody else took it meanwhile. */
export async function onFreePort(start) {
  for (let attempt = 1; ; attempt++) {
    const port = await freePort();
    const { child, ready, result } = start(port);
    try {
      await ready();
      return result;
    } catch (error) {
      const log = child.log;
      await child.kill();
      if (attempt === 5 || !/in use/i.test(log)) throw new Error(`${error.message}\n${log}`, { cause: error });
    }
  }
}
