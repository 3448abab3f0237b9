// The chart: every values file through the API server's strict validation, then installed, tested, upgraded, rolled back.
import { readdir } from "node:fs/promises";
import { join } from "node:path";

import { get, helm, kubectl, kubectlAnywhere } from "./cluster.mjs";
import { CHART, deploy, RELEASE } from "./fleet.mjs";

export const title = "the chart: strict dry-run, install, test, upgrade, rollback";

export default async function run(table) {
  const files = (await readdir(join(CHART, "ci"))).filter((name) => name.endsWith("-values.yaml"));
  const refused = [];
  for (const name of files) {
    const rendered = await helm(["template", RELEASE, CHART, "--values", join(CHART, "ci", name), "--kube-version", "1.36.0"]);
    await kubectlAnywhere(["apply", "--dry-run=server", "--validate=strict", "-f", "-"], rendered).catch((error) =>
      refused.push(`${name}: ${error.stderr.trim().split("\n")[0]}`),
    );
  }
  table.row("values files that the API server takes", `${files.length - refused.length} of ${files.length}`, refused.length === 0);
  for (const refusal of refused) table.row("refused", refusal, false);

  await deploy();
  table.row("install", "done", true);
  const tested = await helm(["test", RELEASE, "--timeout", "1m"]);
  table.row("helm test", /Phase:\s+Succeeded/.test(tested) ? "succeeded" : tested, /Phase:\s+Succeeded/.test(tested));
  await deploy({ replicaCount: 3 });
  table.row("upgrade to 3 gateways", await replicas(), (await replicas()) === 3);
  await helm(["rollback", RELEASE, "1", "--wait", "--timeout", "4m"]);
  table.row("rollback to 2", await replicas(), (await replicas()) === 2);
  const rejected = await kubectl(["apply", "-f", "-"], JSON.stringify(privileged)).then(() => false, () => true);
  table.row("a pod that is not \"restricted\"", rejected ? "refused" : "taken", rejected);
}

const replicas = async () => (await get("deployment", RELEASE)).status.readyReplicas;

const privileged = {
  apiVersion: "v1",
  kind: "Pod",
  metadata: { name: "privileged" },
  spec: { containers: [{ name: "it", image: "registry.local/fanway:local", securityContext: { privileged: true } }] },
};
