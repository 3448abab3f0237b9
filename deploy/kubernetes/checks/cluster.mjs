// kubectl and helm, and waiting for what the cluster is to become.
import { execFile } from "node:child_process";
import { setTimeout as pause } from "node:timers/promises";
import { promisify } from "node:util";

import { until } from "../../e2e/support/wait.mjs";

const run = promisify(execFile);

/** Where everything under test lives; pods there must be "restricted". */
export const NAMESPACE = "fanway";
/** How long anything may take that the cluster does by itself. */
export const PATIENCE = 120_000;

/** Runs kubectl in the namespace; `input` goes to its standard input. */
export const kubectl = (args, input) => command("kubectl", ["--namespace", NAMESPACE, ...args], input);

/** Runs kubectl for objects that name their namespace themselves. */
export const kubectlAnywhere = (args, input) => command("kubectl", args, input);

/** Runs helm in the namespace. */
export const helm = (args, input) => command("helm", ["--namespace", NAMESPACE, ...args], input);

async function command(name, args, input = "") {
  const running = run(name, args, { maxBuffer: 64 << 20, timeout: 300_000 });
  running.child.stdin.end(input);
  return (await running).stdout;
}

/** What the API server knows of something. */
export async function get(...args) {
  return JSON.parse(await kubectl(["get", ...args, "-o", "json"]));
}

/** Creates or changes objects. */
export function apply(...objects) {
  return kubectl(["apply", "--server-side", "--force-conflicts", "-f", "-"], JSON.stringify({ apiVersion: "v1", kind: "List", items: objects }));
}

/** Waits until a Deployment runs what it is told to, and nothing else: its old pods are gone too. */
export async function settled(deployment, within = PATIENCE) {
  await kubectl(["rollout", "status", `deployment/${deployment}`, `--timeout=${within / 1000}s`]);
  await until(`the old pods of ${deployment} to be gone`, async () => (await pods(deployment)).every(({ leaving }) => !leaving), within);
}

/** Pods of an application: name, node, address, whether ready, whether told to leave. */
export async function pods(name) {
  const { items } = await get("pods", "-l", `app.kubernetes.io/name=${name}`);
  return items.map(({ metadata, spec, status }) => ({
    name: metadata.name,
    node: spec.nodeName,
    ip: status.podIP,
    leaving: metadata.deletionTimestamp !== undefined,
    ready: status.conditions?.some(({ type, status }) => type === "Ready" && status === "True") ?? false,
  }));
}

/**
 * Looks again and again while something goes on, and returns its result when it is done. A look that fails is no harm:
 * what it looks at comes and goes.
 */
export async function watching(look, something) {
  let going = true;
  const looking = (async () => {
    while (going) {
      await look().catch(() => {});
      await pause(250);
    }
  })();
  try {
    return await something();
  } finally {
    going = false;
    await looking;
  }
}
