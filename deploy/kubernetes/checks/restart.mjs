// A rolling restart under 1,000 held connections and a steady publisher, with one drain or another.
import { setTimeout as pause } from "node:timers/promises";

import { Crowd, SteadyPublisher } from "../../e2e/support/crowd.mjs";
import { kubectl, settled } from "./cluster.mjs";
import { caughtUp, CHANNELS, deploy, GLIDE, RELEASE, services, token } from "./fleet.mjs";

const COUNTS = { websocket: 700, sse: 200, poll: 100 };
export const TOTAL = Object.values(COUNTS).reduce((sum, count) => sum + count, 0);
/** Those that are always connected; a poll may be between two requests. */
export const HELD = COUNTS.websocket + COUNTS.sse;
/** Publications per second. */
const RATE = 20;
/**
 * The most connections that may go in a second. All gateways give theirs away at the same time: minReadySeconds is 2 here
 * (fleet.mjs), so that the second is replaced before the first has done. With the chart's own, the window, it would be one
 * at a time, and the test would take minutes. And a fifth for the unevenness of five seconds.
 */
export const BOUND = Math.ceil((1.2 * TOTAL) / GLIDE.windowSeconds);

/** Restarts the gateways and says what clients and the publisher saw of it. */
export async function restart(drain) {
  await deploy({}, { drain });
  const { clients, api } = await services();
  const crowd = new Crowd({ ...clients, token, channels: CHANNELS, counts: COUNTS });
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
