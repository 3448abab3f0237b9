// The formulas for autoscaling, in a loop with a model of the autoscaler, through what goes wrong: no mass scale-down, no
// runaway. Where a simpler formula would fail, a control run shows it.
//
// The model computes queries itself, to be in the loop; afterwards promtool evaluates the real query of
// deploy/prometheus/keda.yaml over the very samples of the run and must come to the same numbers.
import assert from "node:assert/strict";
import test from "node:test";

import { byExternal, byPods, Controller, Keda } from "./support/autoscaler.mjs";
import { Fleet, guarded, live, STEP, sum } from "./support/fleet-model.mjs";
import { promtool, read, readYaml } from "./support/tools.mjs";

const hpa = readYaml("deploy/prometheus/hpa.yaml").spec;
const keda = readYaml("deploy/prometheus/keda.yaml").spec;
const adapter = readYaml("deploy/prometheus/adapter.yaml").rules.custom[0];
const [trigger] = keda.triggers;
const QUERY = trigger.metadata.query;
const TARGET = Number(trigger.metadata.threshold);
const MINUTE = 60 / STEP;

const controller = () => new Controller({ min: keda.minReplicaCount, max: keda.maxReplicaCount, behavior: hpa.behavior });

/** The two supported ways, each `(fleet) => replicas`, newly made for each run. */
const WAYS = {
  "HPA on the Pods metric": () => {
    const control = controller();
    return (fleet) => {
      const current = fleet.kept.length;
      return control.decide(fleet.now, current, byPods(current, TARGET, fleet.listed(), fleet.live()));
    };
  },
  "KEDA": () => external((fleet) => fleet.guarded(), new Keda(keda.fallback)),
};

/** An External metric from any formula. */
function external(formula, front = new Keda()) {
  const control = controller();
  return (fleet) => {
    const current = fleet.kept.length;
    return control.decide(fleet.now, current, byExternal(current, TARGET, front.metric(formula(fleet), current, TARGET)));
  };
}

/** What promtool computes over the samples of a run must be what the model computed. */
class Comparison {
  #checks = [];
  #step;

  constructor(step) {
    this.#step = step;
  }

  note(pods, step) {
    const at = step * this.#step;
    const told = guarded(pods, step, this.#step);
    this.#checks.push({ expr: QUERY, at, samples: told === undefined ? [] : [{ labels: "{}", value: told }] });
    const each = [...live(pods, step, this.#step)].map(([pod, value]) => ({ labels: `{namespace="push",pod="${pod}"}`, value }));
    const expr = adapter.metricsQuery.replace("<<.GroupBy>>", "namespace, pod").replace("<<.Series>>{<<.LabelMatchers>>}", 'fanway_connections{namespace="push"}');
    this.#checks.push({ expr, at, samples: each });
  }

  settle(pods) {
    const text = (samples) => Array.from(samples, (sample) => String(sample ?? "_")).join(" ");
    const series = pods.flatMap((pod) => [
      // A connection is of one transport or another: the sum over both is what counts.
      { series: `fanway_connections{namespace="push",pod="${pod.name}",transport="websocket"}`, values: text(pod.connections_seen) },
      { series: `fanway_connections{namespace="push",pod="${pod.name}",transport="sse"}`, values: text(pod.connections_seen.map((one) => (typeof one === "number" ? 0 : one))) },
      { series: `up{namespace="push",pod="${pod.name}"}`, values: text(pod.up_seen) },
    ]);
    const promql_expr_test = this.#checks.map(({ expr, at, samples }) => ({ expr, eval_time: `${at}s`, exp_samples: samples }));
    // promtool has only the samples up to the last evaluation.
    const suite = { rule_files: [], evaluation_interval: `${this.#step}s`, tests: [{ interval: `${this.#step}s`, input_series: series, promql_expr_test }] };
    promtool(["test", "rules", "run.yaml"], { "run.yaml": JSON.stringify(suite) });
  }
}

/** Runs a fleet of `pods` with `each` connections on every one. */
function simulate(way, { pods = 10, each = TARGET, minutes, happens, ...more }) {
  const comparison = new Comparison(STEP);
  const decide = way();
  const fleet = new Fleet({
    pods,
    connections: pods * each,
    ...more,
    decide: (seen) => {
      // Once in two minutes is enough to compare, and whenever a formula has nothing to say.
      if (seen.step % (2 * MINUTE) === 1) comparison.note(seen.pods, seen.step);
      return decide(seen);
    },
  });
  fleet.run(minutes * MINUTE, happens);
  comparison.settle(fleet.pods);
  return fleet;
}

/** The same test for both ways. */
function both(name, check) {
  for (const [way, make] of Object.entries(WAYS)) test(`${way}: ${name}`, () => check(make));
}

/** Below, at and above the target: the autoscaler treats pods without a metric differently. */
const LOADS = [TARGET - 100, TARGET, TARGET + 100];

const least = (fleet) => Math.min(...fleet.replicas);
const most = (fleet) => Math.max(...fleet.replicas);
const MISSES = (from, to, which) => ({ scraped: (pod, step) => step < from * MINUTE || step >= to * MINUTE || !which(pod) });

test("both files scale the same way", () => {
  assert.deepEqual(keda.advanced.horizontalPodAutoscalerConfig.behavior, hpa.behavior);
  assert.equal(Number(hpa.metrics[0].pods.target.averageValue), TARGET);
  assert.deepEqual([hpa.minReplicas, hpa.maxReplicas], [keda.minReplicaCount, keda.maxReplicaCount]);
  assert.equal(trigger.metricType, "AverageValue");
  assert.equal(trigger.metadata.ignoreNullValues, "false");
  assert.equal(keda.fallback.behavior, "currentReplicasIfHigher");
});

both("a growing fleet gets what it needs, and the old pods' load does not make it want more", (way) => {
  // From 3 x 3,000 to 24,000 within ten minutes; new pods need a minute to start, and nothing rebalances.
  const fleet = simulate(way, { pods: 3, minutes: 40, startup: MINUTE, happens: (fleet, at) => at < 10 * MINUTE && fleet.connect(375) });
  assert.equal(fleet.total, 24_000);
  assert.ok(most(fleet) <= 8, `${most(fleet)} pods`);
  assert.ok(fleet.replicas.at(-1) >= 7, `${fleet.replicas.at(-1)} pods: 24,000 / ${TARGET}, less what the tolerance allows`);
});

test("control: scaling on the fullest pod runs away", () => {
  const fullest = (fleet) => Math.max(...fleet.live().values());
  const control = controller();
  // With the type Value, the number of pods is multiplied by value / target.
  const decide = (fleet) => control.decide(fleet.now, fleet.kept.length, Math.ceil((fleet.kept.length * fullest(fleet)) / TARGET));
  const fleet = new Fleet({ pods: 3, connections: 12_000, decide, startup: MINUTE });
  assert.equal(most(fleet.run(20 * MINUTE)), keda.maxReplicaCount);
});

both("a shrinking fleet goes one pod at a time, not sooner than ten minutes after it could", (way) => {
  const fleet = simulate(way, { minutes: 45, happens: (fleet, at) => at === MINUTE && fleet.connect(-18_000) });
  const falls = fleet.replicas.flatMap((count, at) => (at && count < fleet.replicas[at - 1] ? [{ at, by: fleet.replicas[at - 1] - count }] : []));
  assert.ok(falls.length >= 5, JSON.stringify(falls));
  assert.ok(falls.every((fall) => fall.by === 1), JSON.stringify(falls));
  // The last step at which all were needed is the one before the first minute was over.
  assert.ok(falls[0].at >= MINUTE - 1 + 10 * MINUTE, JSON.stringify(falls[0]));
  assert.ok(falls.slice(1).every((fall, at) => fall.at - falls[at].at >= 2 * MINUTE), JSON.stringify(falls));
  assert.equal(fleet.replicas.at(-1), 4);
  assert.equal(fleet.total, 12_000, "nobody is lost on the way");
});

both("one pod of ten cannot be scraped for 50 minutes", (way) => {
  for (const each of LOADS) {
    const fleet = simulate(way, { each, minutes: 70, ...MISSES(5, 55, (pod) => pod.name === "fanway-3") });
    assert.deepEqual([least(fleet), most(fleet)], [10, 10]);
  }
});

test("control: with the plain sum, half of the pods unscraped halves the fleet", () => {
  const half = MISSES(5, 55, (pod) => Number(pod.name.at(-1)) % 2 === 0);
  const fleet = new Fleet({ pods: 10, connections: 10 * TARGET, decide: external((seen) => seen.naive()), ...half });
  assert.ok(least(fleet.run(70 * MINUTE)) <= 5, `${least(fleet)} pods`);
});

both("half of the pods cannot be scraped for 50 minutes", (way) => {
  for (const each of LOADS) {
    const fleet = simulate(way, { each, minutes: 70, ...MISSES(5, 55, (pod) => Number(pod.name.at(-1)) % 2 === 0) });
    assert.deepEqual([least(fleet), most(fleet)], [10, 10]);
  }
});

both("all but one cannot be scraped, and that one is nearly empty", (way) => {
  const happens = (fleet, at) => at === MINUTE && (fleet.pods[0].connections = 100);
  const fleet = simulate(way, { minutes: 70, happens, ...MISSES(5, 55, (pod) => pod.name !== "fanway-0") });
  assert.ok(least(fleet) >= 9, `${least(fleet)} pods`);
  assert.ok(most(fleet) <= 10, `${most(fleet)} pods`);
});

both("no pod can be scraped for 50 minutes", (way) => {
  for (const each of LOADS) {
    const fleet = simulate(way, { each, minutes: 70, ...MISSES(5, 55, () => true) });
    assert.deepEqual([least(fleet), most(fleet)], [10, 10]);
  }
});

both("Prometheus forgets everything and starts anew, one target after the other", (way) => {
  // Nobody is known for ten minutes, then each pod from another scrape on.
  const scraped = (pod, step) => step >= 10 * MINUTE + Number(pod.name.split("-")[1]);
  const fleet = simulate(way, { minutes: 30, scraped });
  assert.deepEqual([least(fleet), most(fleet)], [10, 10]);
});

test("control: nothing counted as zero empties the fleet", () => {
  const decide = external((seen) => seen.naive() ?? 0);
  const fleet = new Fleet({ pods: 10, connections: 10 * TARGET, decide, ...MISSES(5, 55, () => true) });
  assert.equal(least(fleet.run(70 * MINUTE)), keda.minReplicaCount);
});

both("a rollout replaces ten pods one by one", (way) => {
  const happens = (fleet, at) => {
    const turn = at / (2 * MINUTE);
    if (Number.isInteger(turn) && turn >= 1 && turn <= 10) fleet.leave(fleet.pods[turn - 1], { replaced: true });
  };
  const fleet = simulate(way, { minutes: 45, happens });
  assert.equal(fleet.total, 10 * TARGET);
  assert.deepEqual([least(fleet), most(fleet)], [10, 10]);
});

both("a pod whose metric is frozen, too high, adds its excess once and no more", (way) => {
  // The pod says 9,000 for ever; its clients are long with the others.
  const shown = (pod, step) => (pod.name === "fanway-3" && step >= 5 * MINUTE ? 9_000 : pod.connections);
  const fleet = simulate(way, { minutes: 60, shown });
  assert.ok(most(fleet) <= 12, `${most(fleet)} pods for ${fleet.total} connections and 6,000 that are not there`);
  assert.equal(least(fleet), 10);
});

both("a pod whose metric is frozen at nothing takes its share and no more", (way) => {
  const shown = (pod, step) => (pod.name === "fanway-3" && step >= 5 * MINUTE ? 0 : pod.connections);
  const fleet = simulate(way, { minutes: 60, shown });
  assert.ok(least(fleet) >= 9, `${least(fleet)} pods`);
});

both("a pod that crashes over and over is counted once too often at most", (way) => {
  const happens = (fleet, at) => at > 0 && at % (5 * MINUTE) === 0 && fleet.crash(fleet.pods[3], 3 * MINUTE);
  const fleet = simulate(way, { minutes: 60, happens });
  assert.ok(most(fleet) <= 11, `${most(fleet)} pods`);
  assert.ok(least(fleet) >= 10, `${least(fleet)} pods`);
});

test("a recorded fleet: a node unscraped, one drained and replaced, clients coming all the time", () => {
  const { step, pods } = JSON.parse(read("deploy/checks/monitoring/recorded.json"));
  const steps = pods[0].up_seen.length;
  // As if the fleet began with just the nodes that its clients need.
  const target = Math.max(...Array.from({ length: 10 }, (_, at) => guarded(pods, at, step) ?? 0)) / keda.minReplicaCount;
  const control = controller();
  const comparison = new Comparison(step);
  const told = [];
  const plain = [];
  let replicas = keda.minReplicaCount;
  for (let at = 0; at < steps; at++) {
    told.push(guarded(pods, at, step));
    plain.push(sum(live(pods, at, step)));
    replicas = control.decide(at * step, replicas, byExternal(replicas, target, told.at(-1)));
    const most = Math.max(...told.filter((one) => one !== undefined));
    assert.ok(replicas <= Math.max(keda.minReplicaCount, Math.ceil(most / target)), `${replicas} nodes for at most ${most} connections`);
    if (at % 10 === 1) comparison.note(pods, at);
  }
  comparison.settle(pods);
  const silent = pods.find((pod) => pod.silent);
  // A single scrape may be late on a busy machine; meant is the long time in the midst.
  const lost = [...silent.up_seen.keys()].filter((at) => silent.up_seen[at] === 0 && at > steps / 4);
  assert.ok(lost.length >= 3, "the recording has a lost scrape");
  // Without the guard the node's whole share is missing; with it nearly nothing is, because only polls come and go.
  const before = told[lost[0] - 1];
  const share = silent.connections_seen[lost[0] - 1];
  assert.ok(share >= 20, `${share} connections are too few to show anything`);
  assert.ok(lost.every((at) => told[at] > before - share / 2), `${before}, then ${lost.map((at) => told[at])}`);
  assert.ok(lost.every((at) => plain[at] < before - share / 2), `${before}, then ${lost.map((at) => plain[at])}`);
});
