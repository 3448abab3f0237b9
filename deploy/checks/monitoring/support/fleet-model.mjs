// A fleet that is scaled: pods, their connections, what Prometheus gets of them, and the autoscaler, in steps of one scrape.
//
// Connections stay where they are until their pod goes; then they come back at the pods that serve. New ones go to all alike.
// Nothing rebalances, which is the worst that an autoscaler can meet.

/** Seconds from one scrape to the next, and from one decision to the next. */
export const STEP = 15;
/** How far an instant query looks back for a sample, in seconds. */
const LOOKBACK = 300;
/** How far last_over_time looks back in the query for KEDA, in seconds. */
const REMEMBERED = 3600;

class Pod {
  /** One entry per step since the fleet began: a number, "stale", or undefined for no sample. */
  connections_seen = [];
  up_seen = [];

  constructor(name, born, startup) {
    Object.assign(this, { name, born, startsAt: born + startup, connections: 0, draining: false, leavesAt: undefined, gone: false });
  }
}

export class Fleet {
  #step = 0;
  #number = 0;
  pods = [];
  /** The number of pods after each step. */
  replicas = [];

  /**
   * `decide(fleet)` gives the wanted number of pods. `startup`, `drain`: steps until a pod serves and until a leaving one is
   * empty. `scraped(pod, step)`: whether a scrape arrives. `shown(pod, step)`: the number that the pod's metrics show.
   */
  constructor({ pods, connections, decide, startup = 2, drain = 6, scraped = () => true, shown = (pod) => pod.connections }) {
    Object.assign(this, { decide, startup, drain, scraped, shown });
    for (let at = 0; at < pods; at++) this.#add(0);
    this.connect(connections);
  }

  get now() {
    return this.#step * STEP;
  }

  get step() {
    return this.#step;
  }

  get existing() {
    return this.pods.filter((pod) => !pod.gone);
  }

  /** Pods that the Deployment wants to keep. */
  get kept() {
    return this.existing.filter((pod) => !pod.draining);
  }

  get total() {
    return this.existing.reduce((sum, pod) => sum + pod.connections, 0);
  }

  #add(startup = this.startup) {
    const pod = new Pod(`fanway-${this.#number++}`, this.#step, startup);
    this.pods.push(pod);
    return pod;
  }

  #serving() {
    return this.kept.filter((pod) => pod.startsAt <= this.#step);
  }

  /** New clients, or with a negative number clients that leave, on all alike. */
  connect(count) {
    const serving = this.#serving();
    serving.forEach((pod, at) => {
      pod.connections = Math.max(0, pod.connections + Math.floor(count / serving.length) + (at < count % serving.length ? 1 : 0));
    });
  }

  /** The pod begins to drain; a rollout replaces it by a new one. */
  leave(pod, { replaced = false } = {}) {
    pod.draining = true;
    pod.leavesAt = this.#step + this.drain;
    if (replaced) this.#add();
  }

  /** The pod dies. Its container starts again, as the same target; its clients come back elsewhere. */
  crash(pod, steps) {
    const { connections } = pod;
    Object.assign(pod, { connections: 0, startsAt: this.#step + steps });
    this.connect(connections);
  }

  /** One scrape, one decision, and what follows from it. */
  advance() {
    this.#drainLeaving();
    this.#scrape();
    this.#scale(this.decide(this));
    this.replicas.push(this.kept.length);
    this.#step += 1;
  }

  run(steps, before = () => {}) {
    for (let at = 0; at < steps; at++) {
      before(this, at);
      this.advance();
    }
    return this;
  }

  #drainLeaving() {
    for (const pod of this.existing.filter((pod) => pod.draining)) {
      const left = pod.leavesAt - this.#step;
      const moved = left <= 0 ? pod.connections : Math.ceil(pod.connections / (left + 1));
      pod.connections -= moved;
      this.connect(moved);
      if (left < 0) pod.gone = true;
    }
  }

  #scrape() {
    for (const pod of this.pods) {
      const answers = !pod.gone && pod.startsAt <= this.#step && this.scraped(pod, this.#step);
      const was = pod.up_seen.at(-1);
      pod.up_seen[this.#step] = pod.gone ? (typeof was === "number" ? "stale" : undefined) : Number(answers);
      const before = pod.connections_seen[this.#step - 1];
      pod.connections_seen[this.#step] = answers ? this.shown(pod, this.#step) : typeof before === "number" ? "stale" : undefined;
    }
  }

  #scale(wanted) {
    const { kept } = this;
    for (let at = kept.length; at < wanted; at++) this.#add();
    // The ReplicaSet takes the youngest first.
    for (const pod of kept.slice(wanted)) this.leave(pod);
  }

  // What queries give at the end of this step's scrape.

  /** `fanway_connections` of each pod. */
  live() {
    return live(this.pods, this.#step, STEP);
  }

  /** Its plain sum, as one would first write it. */
  naive() {
    return sum(this.live());
  }

  /** The query of deploy/prometheus/keda.yaml. */
  guarded() {
    return guarded(this.pods, this.#step, STEP);
  }

  /** The Deployment's pods as the autoscaler lists them. */
  listed() {
    return this.existing.map((pod) => ({ name: pod.name, pending: pod.startsAt > this.#step && pod.born + this.startup > this.#step, deleted: pod.draining }));
  }
}

/** `fanway_connections` of each pod at a step of `seconds`. */
export function live(pods, step, seconds) {
  const values = pods.map((pod) => [pod.name, newest(pod.connections_seen, step, LOOKBACK / seconds)]);
  return new Map(values.filter(([, value]) => value !== undefined));
}

/** The query of deploy/prometheus/keda.yaml. */
export function guarded(pods, step, seconds) {
  const values = live(pods, step, seconds);
  for (const pod of pods) {
    if (values.has(pod.name) || newest(pod.up_seen, step, LOOKBACK / seconds) !== 0) continue;
    const known = last(pod.connections_seen, step, REMEMBERED / seconds);
    if (known !== undefined) values.set(pod.name, known);
  }
  return sum(values);
}

/** A sum as PromQL has it: of nothing there is none. */
export const sum = (values) => (values.size ? [...values.values()].reduce((total, value) => total + value, 0) : undefined);

/** What an instant query sees: the newest sample, unless it marks the end of the series. */
function newest(samples, step, back) {
  for (let at = step; at > step - back && at >= 0; at--) {
    if (samples[at] === undefined || samples[at] === null) continue;
    return samples[at] === "stale" ? undefined : samples[at];
  }
  return undefined;
}

/** What last_over_time sees: the newest number, whatever came after it. */
function last(samples, step, back) {
  for (let at = step; at > step - back && at >= 0; at--) if (typeof samples[at] === "number") return samples[at];
  return undefined;
}
