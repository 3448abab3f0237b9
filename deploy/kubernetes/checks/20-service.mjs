// What is published through the Service is received on the pods of both machines, over WebSocket, SSE and polling.
import { Crowd, post } from "../../e2e/support/crowd.mjs";
import { until } from "../../e2e/support/wait.mjs";
import { API_KEY, CHANNELS, deploy, gateways, services, token } from "./fleet.mjs";

export const title = "publish through the Service, receive anywhere";

export default async function run(table) {
  await deploy();
  const { api } = await services();
  const all = await gateways();
  const machines = new Set(all.map(({ node }) => node));
  table.row("machines with a gateway", machines.size, machines.size === 2);
  const channels = CHANNELS.slice(0, 3);
  const crowds = all.map(({ ip }) => new Crowd({ host: ip, port: 8000, token: token(), channels, counts: { websocket: 3, sse: 3, poll: 3 } }));
  await Promise.all(crowds.map((crowd) => crowd.open(100)));
  const heads = new Map();
  for (let n = 0; n < 20; n++) {
    for (const channel of channels) {
      const { result } = await post({ ...api, apiKey: API_KEY, body: { channel, data: { n } } });
      heads.set(channel, result.offset);
    }
  }
  const complete = () => crowds.every((crowd) => crowd.behind(heads).length === 0);
  await until("every client to have everything", complete).catch(() => {});
  for (const [at, crowd] of crowds.entries()) {
    const had = crowd.clients.length - crowd.behind(heads).length;
    table.row(`clients on ${all[at].node} with all 20`, `${had} of ${crowd.clients.length}`, had === crowd.clients.length);
    table.row("... out of order, doubled, missing", crowd.journal.faults.length, crowd.journal.faults.length === 0);
    crowd.close();
  }
}
