// A rolling restart under 1,000 held connections and a steady publisher: every client ends with every publication, nobody
// fails to connect, and connections come back no faster than the drain window lets them go. And the same without a drain,
// which must be seen to fail.
import { setTimeout as pause } from "node:timers/promises";

import { Crowd, SteadyPublisher } from "../../e2e/support/crowd.mjs";
import { kubectl, settled } from "./cluster.mjs";
import { caughtUp, CHANNELS, CLIFF, deploy, GLIDE, RELEASE, services, token } from "./fleet.mjs";

export const title = "rolling restart under 1,000 connections";

const COUNTS = { websocket: 700, sse: 200, poll: 100 };
const TOTAL = Object.values(COUNTS).reduce((sum, count) => sum + count, 0);
/** Those that are always connected; a poll may be between two requests. */
const HELD = COUNTS.websocket + COUNTS.sse;
/** Publications per second. */
const RATE = 20;

export default async function run(table) {
  const glide = await restart(GLIDE);
  // All gateways give theirs away at the same time: minReadySeconds is 2 here (fleet.mjs), so that the second is replaced
  // before the first has done. With the chart's own, the window, it would be one at a time, and the test would take minutes.
  // And a fifth for the unevenness of five seconds.
  const bound = Math.ceil((1.2 * TOTAL) / GLIDE.windowSeconds);
  table.row("connections, publications", `${TOTAL}, ${glide.publisher.published}`, glide.publisher.published > 0);
  table.failures("failed connects", glide.crowd.journal.failures);
  table.failures("failed publishes", glide.publisher.failures);
  table.row("clients without every publication", glide.behind, glide.behind === 0);
  table.row("publications out of order, doubled, missing", glide.crowd.journal.faults.length, glide.crowd.journal.faults.length === 0);
  table.row("connections given away", glide.crowd.journal.closes.length, glide.crowd.journal.closes.length >= HELD);
  table.row("most in a second (5 s mean)", `${glide.peak}, bound ${bound}`, glide.peak <= bound);
  table.row("the whole restart", `${glide.seconds} s`, true);

  const cliff = await restart(CLIFF);
  // How many requests meet a gateway that has just gone is chance; that all its clients come at once is not.
  const broken = cliff.crowd.journal.failures.length + cliff.publisher.failures.length;
  table.row("without a drain: failed connects and publishes", broken, true);
  table.row("without a drain: most in a second (5 s mean)", `${cliff.peak} (must be above)`, cliff.peak > bound);
  table.row("without a drain: publications lost", cliff.behind + cliff.crowd.journal.faults.length, cliff.behind + cliff.crowd.journal.faults.length === 0);
}

async function restart(drain) {
  await deploy({}, { drain });
  const { clients, api } = await services();
  const crowd = new Crowd({ ...clients, token: token(), channels: CHANNELS, counts: COUNTS });
  const publisher = new SteadyPublisher({ ...api, channels: CHANNELS, perSecond: RATE });
  try {
    await crowd.open(250);
    await pause(2000);
    const began = Date.now();
    await kubectl(["rollout", "restart", `deployment/${RELEASE}`]);
    await settled(RELEASE);
    const seconds = Math.round((Date.now() - began) / 1000);
    // Those that were told to wait before they come back.
    await pause(5000);
    await publisher.stop();
    await caughtUp(crowd, publisher);
    const behind = crowd.behind(publisher.heads).length;
    return { crowd, publisher, behind, seconds, peak: peak(crowd.journal.closes) };
  } finally {
    crowd.close();
    await publisher.stop();
  }
}

/** The most closes per second, as a mean over five. */
function peak(closes) {
  const times = closes.map(({ at }) => at).sort((a, b) => a - b);
  let most = 0;
  for (let from = 0, to = 0; to < times.length; to++) {
    while (times[to] - times[from] >= 5000) from++;
    most = Math.max(most, to - from + 1);
  }
  return Math.round(most / 5);
}
