// Kubernetes' Horizontal Pod Autoscaler, as far as it decides on a number of pods: a model of kube-controller-manager's
// replica calculator and of `behavior`, on one metric.
//
// Modelled, after pkg/controller/podautoscaler of Kubernetes 1.36: the Pods metric with missing, pending and deleted pods; the
// External metric with AverageValue, which KEDA uses; the tolerance of 0.1; bounds; stabilization windows; policies of the
// types Percent and Pods with their periods. A metric that cannot be had leaves the number as it is.
// Not modelled: several metrics at once, CPU, and how long an API call takes.

const TOLERANCE = 0.1;

const within = (ratio) => Math.abs(ratio - 1) <= TOLERANCE;

/**
 * What the Pods metric asks for. `pods` is the list of the Deployment's pods, each `{ name, pending, deleted }`, `values` the
 * metric by name. Undefined: leave it as it is.
 */
export function byPods(current, target, pods, values) {
  const counted = pods.filter((pod) => !pod.deleted);
  const pending = counted.filter((pod) => pod.pending);
  const running = counted.filter((pod) => !pod.pending);
  const seen = new Map(running.filter((pod) => values.has(pod.name)).map((pod) => [pod.name, values.get(pod.name)]));
  const missing = running.filter((pod) => !values.has(pod.name));
  if (seen.size === 0) return undefined;
  const ratio = usage(seen, target);
  const upWithPending = pending.length > 0 && ratio > 1;
  if (!upWithPending && missing.length === 0) return within(ratio) ? current : Math.ceil(ratio * seen.size);
  // Who is not known is supposed to be at the target when pods would go, and idle when pods would come.
  if (ratio !== 1) for (const pod of missing) seen.set(pod.name, ratio < 1 ? target : 0);
  if (upWithPending) for (const pod of pending) seen.set(pod.name, 0);
  const careful = usage(seen, target);
  if (within(careful) || (ratio < 1 && careful > 1) || (ratio > 1 && careful < 1)) return current;
  const wanted = Math.ceil(careful * seen.size);
  if ((careful < 1 && wanted > current) || (careful > 1 && wanted < current)) return current;
  return wanted;
}

/** What an External metric with AverageValue asks for. Undefined: leave it as it is. */
export function byExternal(current, target, sum) {
  if (sum === undefined) return undefined;
  return within(sum / (target * current)) ? current : Math.ceil(sum / target);
}

const usage = (values, target) => [...values.values()].reduce((sum, value) => sum + value, 0) / values.size / target;

/** KEDA in front of it: counts failures, and after `failureThreshold` of them offers its fallback. */
export class Keda {
  #failures = 0;

  constructor(fallback) {
    this.fallback = fallback;
  }

  /** `sum` is the query's result, undefined for none. Gives what the autoscaler is told. */
  metric(sum, current, target) {
    if (sum !== undefined) {
      this.#failures = 0;
      return sum;
    }
    this.#failures += 1;
    if (!this.fallback || this.#failures <= this.fallback.failureThreshold) return undefined;
    const { replicas, behavior } = this.fallback;
    return target * (behavior === "currentReplicasIfHigher" ? Math.max(current, replicas) : replicas);
  }
}

/** Applies bounds and `behavior`, with the memory that it takes. Times are in seconds. */
export class Controller {
  #wishes = [];
  #changes = [];

  constructor({ min, max, behavior }) {
    Object.assign(this, { min, max, behavior });
  }

  /** The number of pods from now on. */
  decide(now, current, wanted) {
    if (wanted === undefined) return current;
    const { scaleUp, scaleDown } = this.behavior;
    this.#wishes.push({ now, wanted });
    const since = (seconds) => this.#wishes.filter((wish) => wish.now > now - seconds).map((wish) => wish.wanted);
    // Up to the least, down to the greatest of the wishes within the window.
    const up = Math.min(wanted, ...since(scaleUp.stabilizationWindowSeconds));
    const down = Math.max(wanted, ...since(scaleDown.stabilizationWindowSeconds));
    let next = Math.min(Math.max(current, up), down);
    if (next > current) next = Math.min(next, Math.max(current, this.#limit(scaleUp, now, current, +1)), this.max);
    if (next < current) next = Math.max(next, Math.min(current, this.#limit(scaleDown, now, current, -1)), this.min);
    next = Math.min(this.max, Math.max(this.min, next));
    if (next !== current) this.#changes.push({ now, by: next - current });
    return next;
  }

  #limit({ policies, selectPolicy = "Max" }, now, current, sign) {
    const limits = policies.map(({ type, value, periodSeconds }) => {
      const recent = this.#changes.filter((change) => change.now > now - periodSeconds);
      const before = current - recent.reduce((sum, change) => sum + change.by, 0);
      if (type === "Pods") return before + sign * value;
      const part = before * (1 + (sign * value) / 100);
      return sign > 0 ? Math.ceil(part) : Math.trunc(part);
    });
    // "Max" is the policy that changes most.
    return (selectPolicy === "Max") === sign > 0 ? Math.max(...limits) : Math.min(...limits);
  }
}
