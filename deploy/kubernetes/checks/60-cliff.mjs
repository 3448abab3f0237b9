// The control of 30-restart.mjs: the same without a drain, which must be seen to fail.
//
// Nobody connects after it: for two minutes the machine's connection tracking still leads the ports from which clients have
// connected in vain to the gateways that have gone, whatever kube-proxy says by then.
import { CLIFF } from "./fleet.mjs";
import { BOUND, restart } from "./restart.mjs";

export const title = "the same without a drain";

export default async function run(table) {
  const cliff = await restart(CLIFF);
  // How many requests meet a gateway that has just gone is chance; that all its clients come at once is not.
  const broken = cliff.crowd.journal.failures.length + cliff.publisher.failures.length;
  table.row("failed connects and publishes", broken, true);
  table.row("most in a second (5 s mean)", `${cliff.peak} (must be above ${BOUND})`, cliff.peak > BOUND);
  table.row("publications lost", cliff.behind + cliff.crowd.journal.faults.length, cliff.behind + cliff.crowd.journal.faults.length === 0);
}
