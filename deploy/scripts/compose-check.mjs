// What docker-compose.yml has started, seen from outside: publish through the balancer, receive over every transport on both
// gateways, replace a gateway meanwhile, and look at what Prometheus knows. Run by compose-check.sh.
import { execFile } from "node:child_process";
import { promisify } from "node:util";

import { Crowd, SteadyPublisher } from "../e2e/support/crowd.mjs";
import { until } from "../e2e/support/wait.mjs";

const run = promisify(execFile);
const host = "127.0.0.1";
const channels = ["news", "demo:a"];
const counts = { websocket: 20, sse: 20, poll: 10 };
const results = [];

function row(what, saw, fine) {
  results.push(fine);
  console.log(`  ${fine ? "ok  " : "FAIL"}  ${what}: ${saw}`);
}

async function query(expression) {
  const response = await fetch(`http://${host}:9090/api/v1/query?query=${encodeURIComponent(expression)}`);
  return (await response.json()).data.result.map(({ metric, value }) => ({ ...metric, value: Number(value[1]) }));
}

const crowd = new Crowd({ host, port: 8000, token: process.env.FANWAY_TOKEN, channels, counts });
const publisher = new SteadyPublisher({ host, port: 8001, apiKey: "only-for-trying-things", channels, perSecond: 20 });
await crowd.open(50);
row("clients connected through the balancer", crowd.clients.length, crowd.clients.length === 50);
const spread = await until("Prometheus to see connections on both gateways", async () => {
  const each = await query("sum by (instance) (fanway_connections)");
  return each.length === 2 && each.every(({ value }) => value > 0) && each;
}).catch(() => []);
row("connections by gateway", spread.map(({ instance, value }) => `${instance} ${value}`).join(", "), spread.length === 2);

// Recreated with everybody connected: it drains, its clients go over to the other one.
await run(process.env.COMPOSE, ["up", "--detach", "--force-recreate", "--no-deps", "--wait", "gateway-1"], { timeout: 120_000 });
await until("both gateways to be up again", async () => (await query("sum(up)"))[0]?.value === 2, 60_000).catch(() => {});
await publisher.stop();
await until("every client to have everything", () => crowd.behind(publisher.heads).length === 0).catch(() => {});
const complete = crowd.clients.length - crowd.behind(publisher.heads).length;
row("publications", publisher.published, publisher.published > 0);
row("failed publishes", publisher.failures.length, publisher.failures.length === 0);
row("connections that a replaced gateway gave away", crowd.journal.closes.length, crowd.journal.closes.length > 0);
row("failed connects", crowd.journal.failures.length, crowd.journal.failures.length === 0);
row("clients with every publication", `${complete} of ${crowd.clients.length}`, complete === crowd.clients.length);
row("lost, doubled, out of order", crowd.journal.faults.length, crowd.journal.faults.length === 0);
for (const fault of [...crowd.journal.faults, ...crowd.journal.failures, ...publisher.failures].slice(0, 5)) console.log("       ", JSON.stringify(fault));
crowd.close();

const command = await fetch(`http://${host}:8001/api`, {
  method: "POST",
  headers: { "Content-Type": "application/json", "X-API-Key": "only-for-trying-things" },
  body: JSON.stringify({ method: "info", params: {} }),
});
row("a command to /api", command.status, command.status === 200 && Boolean((await command.json()).result));

const up = await query("up");
row("gateways that Prometheus scrapes", up.filter(({ value }) => value === 1).length, up.length === 2 && up.every(({ value }) => value === 1));
const { data } = await (await fetch(`http://${host}:9090/api/v1/rules`)).json();
const rules = data.groups.flatMap(({ rules }) => rules);
row("rules that it has loaded", `${rules.length}, ${rules.filter(({ health }) => health === "err").length} in error`, rules.length > 0 && rules.every(({ health }) => health !== "err"));
const outside = await Promise.all(["/metrics", "/health/ready", "/api/info"].map(async (path) => (await fetch(`http://${host}:8000${path}`)).status));
row("operations through the clients' door", outside.join(", "), outside.every((status) => status === 404));

const failed = results.filter((fine) => !fine).length;
console.log(failed ? `${failed} not as it must be` : "everything as it must be");
process.exit(failed ? 1 : 0);
