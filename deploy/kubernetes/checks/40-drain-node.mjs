// A machine is drained: the budget keeps enough gateways, and those that were there come back elsewhere.
import { setTimeout as pause } from "node:timers/promises";

import { Crowd, SteadyPublisher } from "../../e2e/support/crowd.mjs";
import { kubectl, settled, watching } from "./cluster.mjs";
import { caughtUp, CHANNELS, deploy, gateways, RELEASE, services, token } from "./fleet.mjs";

export const title = "drain of a machine under 300 connections";

const COUNTS = { websocket: 200, sse: 60, poll: 40 };

export default async function run(table) {
  await deploy({ replicaCount: 3 });
  const { clients, api } = await services();
  const crowd = new Crowd({ ...clients, token, channels: CHANNELS, counts: COUNTS });
  const publisher = new SteadyPublisher({ ...api, channels: CHANNELS, perSecond: 20 });
  let least = Infinity;
  try {
    await crowd.open(200);
    const before = (await gateways()).filter(({ node }) => node === "node2").length;
    table.row("gateways on the machine", before, before > 0);
    const look = async () => {
      least = Math.min(least, (await gateways()).filter(({ ready }) => ready).length);
    };
    await watching(look, async () => {
      await kubectl(["drain", "node2", "--ignore-daemonsets", "--delete-emptydir-data", "--timeout=180s"]);
      await settled(RELEASE);
    });
    await pause(4000);
    await publisher.stop();
    await caughtUp(crowd, publisher);
    const after = (await gateways()).filter(({ node }) => node === "node2").length;
    table.row("... after the drain", after, after === 0);
    table.row("fewest ready gateways meanwhile", `${least} of 3`, least >= 2);
    table.failures("failed connects", crowd.journal.failures);
    const lost = crowd.behind(publisher.heads).length + crowd.journal.faults.length;
    table.row("clients with a loss, a double or a gap", lost, lost === 0);
  } finally {
    crowd.close();
    await publisher.stop();
    await kubectl(["uncordon", "node2"]);
  }
}
