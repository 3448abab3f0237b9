// custom.metrics.k8s.io from Prometheus: what prometheus-adapter does with deploy/prometheus/adapter.yaml, for one metric of
// pods. (The adapter itself is published as an image only.)
import { execFileSync } from "node:child_process";
import { readFileSync } from "node:fs";
import { createServer } from "node:https";
import { join } from "node:path";

import { apply, get, NAMESPACE } from "./cluster.mjs";

const GROUP = "custom.metrics.k8s.io";
const VERSION = "v1beta2";
/** The first machine, on which this runs, and the port there. */
const ADDRESS = "192.0.2.10";
const PORT = 7443;

/** Serves `metric` of pods to the cluster's API server. `query` asks Prometheus. */
export async function serveMetrics({ folder, metric, query }) {
  const [key, cert] = ["key", "crt"].map((name) => join(folder, `metrics.${name}`));
  execFileSync("openssl", ["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=metrics", "-keyout", key, "-out", cert], { stdio: "ignore" });
  const server = createServer({ key: readFileSync(key), cert: readFileSync(cert) }, async (request, response) => {
    const { status, body } = await answer(request, metric, query).catch((error) => refusal(500, error.message));
    response.writeHead(status, { "Content-Type": "application/json" }).end(JSON.stringify(body));
  });
  await new Promise((resolve) => server.listen(PORT, ADDRESS, resolve));
  // A Service without a selector, whose endpoint is outside of the cluster.
  const metadata = { name: "metrics" };
  await apply(
    { apiVersion: "v1", kind: "Service", metadata, spec: { ports: [{ port: 443, targetPort: PORT }] } },
    {
      apiVersion: "discovery.k8s.io/v1",
      kind: "EndpointSlice",
      metadata: { ...metadata, labels: { "kubernetes.io/service-name": "metrics" } },
      addressType: "IPv4",
      ports: [{ port: PORT }],
      endpoints: [{ addresses: [ADDRESS], conditions: { ready: true } }],
    },
    {
      apiVersion: "apiregistration.k8s.io/v1",
      kind: "APIService",
      metadata: { name: `${VERSION}.${GROUP}` },
      spec: {
        group: GROUP,
        version: VERSION,
        service: { name: "metrics", namespace: NAMESPACE },
        insecureSkipTLSVerify: true,
        groupPriorityMinimum: 100,
        versionPriority: 100,
      },
    },
  );
  return () => server.close();
}

async function answer(request, metric, query) {
  const url = new URL(request.url, "https://metrics");
  const parts = url.pathname.split("/").filter(Boolean).map(decodeURIComponent);
  const [, group, version, , namespace, resource, name, asked] = parts;
  if (group !== GROUP || version !== VERSION) return refusal(404, "unknown group");
  if (parts.length === 3) {
    const resources = [{ name: `pods/${metric}`, singularName: "", namespaced: true, kind: "MetricValueList", verbs: ["get"] }];
    return { status: 200, body: { kind: "APIResourceList", apiVersion: "v1", groupVersion: `${group}/${version}`, resources } };
  }
  if (resource !== "pods" || asked !== metric) return refusal(404, "unknown metric");
  const selector = url.searchParams.get("labelSelector");
  const pods = name === "*" ? (await get("pods", ...(selector ? ["-l", selector] : []))).items.map(({ metadata }) => metadata.name) : [name];
  const series = await query(`sum by (pod) (${metric}{namespace="${namespace}", pod=~"${pods.join("|")}"})`);
  // No value at all is an error: the autoscaler must not take it for zero.
  if (series.length === 0) return refusal(404, "no such metric");
  const items = series.map(({ pod, value }) => ({
    describedObject: { apiVersion: "/v1", kind: "Pod", namespace, name: pod },
    metric: { name: metric, selector: null },
    timestamp: new Date().toISOString().replace(/\.\d+/, ""),
    value: String(value),
  }));
  return { status: 200, body: { kind: "MetricValueList", apiVersion: `${group}/${version}`, metadata: {}, items } };
}

function refusal(status, message) {
  return { status, body: { kind: "Status", apiVersion: "v1", status: "Failure", code: status, reason: "NotFound", message } };
}
