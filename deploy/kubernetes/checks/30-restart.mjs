// A rolling restart under 1,000 held connections and a steady publisher: every client ends with every publication, nobody
// fails to connect, and connections come back no faster than the drain window lets them go. 60-cliff.mjs is the control.
import { GLIDE } from "./fleet.mjs";
import { BOUND, HELD, restart, TOTAL } from "./restart.mjs";

export const title = "rolling restart under 1,000 connections";

export default async function run(table) {
  const glide = await restart(GLIDE);
  table.row("connections, publications", `${TOTAL}, ${glide.publisher.published}`, glide.publisher.published > 0);
  table.failures("failed connects", glide.crowd.journal.failures);
  table.failures("failed publishes", glide.publisher.failures);
  table.row("clients without every publication", glide.behind, glide.behind === 0);
  table.row("publications out of order, doubled, missing", glide.crowd.journal.faults.length, glide.crowd.journal.faults.length === 0);
  table.row("connections given away", glide.crowd.journal.closes.length, glide.crowd.journal.closes.length >= HELD);
  table.row("most in a second (5 s mean)", `${glide.peak}, bound ${BOUND}`, glide.peak <= BOUND);
  table.row("the whole restart", `${glide.seconds} s`, true);
}
