// The gateways under test, installed by the chart, and their Redis; and ways to reach them.
import { createHash, randomBytes } from "node:crypto";
import { fileURLToPath } from "node:url";

import { mint } from "../../e2e/support/token.mjs";
import { until } from "../../e2e/support/wait.mjs";
import { apply, get, helm, kubectl, pods, settled } from "./cluster.mjs";

/** The chart. */
export const CHART = fileURLToPath(new URL("../../../helm/fanway", import.meta.url));
/** The release's name, which its resources have too. */
export const RELEASE = "fanway";

/** Credentials of this run. */
const SECRET = randomBytes(32).toString("hex");
export const API_KEY = randomBytes(16).toString("hex");

/** The token of a client with a number, for every channel of the checks. Each client is a user of its own. */
export const token = (number = 0) => mint({ sub: `check-${number}`, secret: SECRET, caps: [{ channels: ["check:*"], match: "wildcard", allow: ["sub", "hst"] }] });

/** Channels that clients are spread over. */
export const CHANNELS = Array.from({ length: 10 }, (_, n) => `check:${n}`);

/** How a gateway gives its connections away: what production does, at a length that a test can wait for. */
export const GLIDE = { propagationDelaySeconds: 5, windowSeconds: 20, closeTimeoutSeconds: 3 };
/** The opposite, to see that the difference is seen. */
export const CLIFF = { propagationDelaySeconds: 0, windowSeconds: 0, closeTimeoutSeconds: 0, preStop: "none" };

/** The chart's values for this cluster. */
const VALUES = {
  image: { registry: "registry.local", repository: "fanway", tag: "local", pullPolicy: "Never" },
  redis: { url: "redis://redis:6379" },
  auth: { keys: [{ algorithm: "HS256", existingSecret: { name: "checks", key: "token-secret" } }] },
  api: { keys: [{ id: "checks", existingSecret: { name: "checks", key: "api-key-hash" } }] },
  tests: { apiKey: { existingSecret: "checks", key: "api-key" } },
  config: {
    default_namespace: { history_size: 100, history_ttl: "5m" },
    namespaces: { check: { history_size: 1000, history_ttl: "10m" } },
  },
  // There is room for little else on a small machine, and little time.
  resources: { requests: { cpu: "100m", memory: "64Mi" }, limits: { memory: "512Mi" } },
  // Instead of the drain's window, so that a rollout does not take minutes: all gateways may drain at once.
  minReadySeconds: 2,
};

/** The custom resources that the chart makes for others: monitors, rules, dashboards, routes, scalers. */
const DEFINITIONS = fileURLToPath(new URL("../../../target/tools/crds", import.meta.url));

/** The namespace, the credentials and a Redis. */
export async function prepare() {
  await kubectl(["apply", "--server-side", "-f", DEFINITIONS]);
  await kubectl(["wait", "--for=condition=Established", "--timeout=60s", "crd", "--all"]);
  await kubectl(["apply", "-f", manifest("namespace.yaml")]);
  await kubectl(["apply", "-f", manifest("redis.yaml")]);
  const hash = createHash("sha256").update(API_KEY).digest("hex");
  const stringData = { "token-secret": SECRET, "api-key": API_KEY, "api-key-hash": hash };
  await apply({ apiVersion: "v1", kind: "Secret", metadata: { name: "checks" }, stringData });
  await settled("redis");
}

const manifest = (name) => fileURLToPath(new URL(`../manifests/${name}`, import.meta.url));

/** Installs the chart or upgrades the release, and waits until the gateways run. `values` go over those of this cluster. */
export async function deploy(values = {}, { drain = GLIDE } = {}) {
  const all = merge(merge(VALUES, { gateway: { drain } }), values);
  await helm(["upgrade", "--install", RELEASE, CHART, "--values", "-", "--wait", "--timeout", "4m"], JSON.stringify(all));
  await settled(RELEASE);
}

function merge(below, above) {
  const result = { ...below };
  for (const [name, value] of Object.entries(above)) {
    const both = isObject(value) && isObject(below[name]);
    result[name] = both ? merge(below[name], value) : value;
  }
  return result;
}

const isObject = (value) => typeof value === "object" && value !== null && !Array.isArray(value);

/** Where clients and back ends reach the fleet as a whole. */
export async function services() {
  const at = async (name) => {
    const { clusterIP, ports } = (await get("service", name)).spec;
    return { host: clusterIP, port: ports[0].port };
  };
  return { clients: await at(RELEASE), api: { ...(await at(`${RELEASE}-api`)), apiKey: API_KEY } };
}

/** The gateways that take part, one by one. */
export const gateways = async () => (await pods(RELEASE)).filter(({ leaving }) => !leaving);

/** What a pod says of itself: the sum of a metric's series. */
export async function metric(ip, name) {
  const response = await fetch(`http://${ip}:9000/metrics`, { signal: AbortSignal.timeout(5000) });
  let sum = 0;
  for (const line of (await response.text()).split("\n")) {
    const [, series, value] = /^(\w+)(?:\{.*\})? (\S+)$/.exec(line) ?? [];
    if (series === name) sum += Number(value);
  }
  return sum;
}

/** Client connections of each gateway. */
export async function connections() {
  return Promise.all((await gateways()).map(async ({ name, node, ip }) => ({ name, node, held: await metric(ip, "fanway_connections") })));
}

/** Waits until every client has everything that was published; who asks looks at who has not. */
export const caughtUp = (crowd, publisher) =>
  until("every client to have every publication", () => crowd.behind(publisher.heads).length === 0, 60_000).catch(() => {});
