// Uninstalling leaves nothing of the release behind.
import { until } from "../../e2e/support/wait.mjs";
import { get, helm } from "./cluster.mjs";
import { RELEASE } from "./fleet.mjs";

export const title = "uninstall";

const KINDS = "deployments,services,configmaps,secrets,serviceaccounts,poddisruptionbudgets,networkpolicies,horizontalpodautoscalers,pods";

export default async function run(table) {
  await helm(["uninstall", RELEASE, "--wait", "--timeout", "3m"]);
  const left = async () => (await get(KINDS, "-l", `app.kubernetes.io/instance=${RELEASE}`)).items.map(({ kind, metadata }) => `${kind} ${metadata.name}`);
  await until("nothing to be left", async () => (await left()).length === 0).catch(() => {});
  const rest = await left();
  table.row("left behind", rest.join(", ") || "nothing", rest.length === 0);
}
