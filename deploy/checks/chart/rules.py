"""What holds for every manifest of the chart, whatever the values; and that the matrix makes every one of them."""

import pathlib

from . import render

# Containers of the chart itself; further ones are their owners' business.
OWN = {"fanway", "settings", "publish"}


def restricted(pod: dict) -> list[str]:
    """What the Pod Security Standard "restricted" has against a pod, as far as the chart's own containers are concerned."""
    found = []
    shared = pod.get("securityContext", {})
    for key in ("hostNetwork", "hostPID", "hostIPC"):
        if pod.get(key):
            found.append(f"{key} is set")
    allowed = {"configMap", "csi", "downwardAPI", "emptyDir", "ephemeral", "persistentVolumeClaim", "projected", "secret"}
    for volume in pod.get("volumes", []):
        if not allowed.intersection(volume):
            found.append(f"volume {volume['name']} is of a kind that is not allowed")
    for container in pod["containers"]:
        if container["name"] not in OWN:
            continue
        own = container.get("securityContext", {})
        wanted = {
            "allowPrivilegeEscalation": own.get("allowPrivilegeEscalation") is False,
            "privileged": not own.get("privileged"),
            "capabilities": own.get("capabilities") == {"drop": ["ALL"]},
            "runAsNonRoot": own.get("runAsNonRoot", shared.get("runAsNonRoot")) is True,
            "runAsUser": own.get("runAsUser", shared.get("runAsUser", 0)) != 0,
            "seccompProfile": own.get("seccompProfile", shared.get("seccompProfile")) == {"type": "RuntimeDefault"},
            # Beyond the standard.
            "readOnlyRootFilesystem": own.get("readOnlyRootFilesystem") is True,
        }
        found += [f"container {container['name']}: {key}" for key, right in wanted.items() if not right]
    return found


def pods(manifests: tuple[dict, ...]):
    """Every pod and template of pods, with the manifest it stands in."""
    for manifest in manifests:
        if manifest["kind"] == "Pod":
            yield manifest, manifest["metadata"], manifest["spec"]
        elif manifest["kind"] == "Deployment":
            yield manifest, manifest["spec"]["template"]["metadata"], manifest["spec"]["template"]["spec"]


def selects(selector: dict, labels: dict) -> bool:
    """Whether a map of labels selects."""
    return all(labels.get(key) == value for key, value in selector.items())


def check(chart: str, versions: list[str], fail) -> int:
    """All of the matrix on all versions. Returns how many sets of manifests were looked at."""
    count = 0
    templates = {path.relative_to(pathlib.Path(chart).parent) for path in pathlib.Path(chart, "templates").rglob("*.yaml")}
    # It renders nothing unless it refuses.
    templates.remove(pathlib.Path(pathlib.Path(chart).name, "templates", "checks.yaml"))
    for values in render.matrix(chart):
        for version in versions:
            templates -= _sources(render.text(chart, values, version))
            found = render.manifests(chart, values, version)
            count += 1
            for problem in _problems(found):
                fail(f"{values}, Kubernetes {version}: {problem}")
    for template in sorted(templates):
        fail(f"{template} is rendered by no file of the matrix")
    if not restricted({"containers": [{"name": "fanway"}]}):
        fail("the rules let a pod pass that restricts nothing")
    return count


def _sources(text: str) -> set[pathlib.Path]:
    """The templates that a rendering came from."""
    marks = (line.removeprefix("# Source: ") for line in text.splitlines() if line.startswith("# Source: "))
    return {pathlib.Path(mark) for mark in marks}


def _problems(found: tuple[dict, ...]):
    deployment = render.one(found, "Deployment")
    nodes = deployment["spec"]["template"]["metadata"]["labels"]
    template = deployment["spec"]["template"]["spec"]

    for manifest, _, pod in pods(found):
        yield from (f"{render.name(manifest)} is not restricted: {problem}" for problem in restricted(pod))
        if pod.get("automountServiceAccountToken") is not False:
            yield f"{render.name(manifest)} gets a token of Kubernetes"

    names = [(manifest["kind"], manifest["metadata"].get("namespace"), manifest["metadata"]["name"]) for manifest in found]
    yield from (f"{kind}/{name} is there twice" for kind, _, name in {each for each in names if names.count(each) > 1})

    for manifest in found:
        if manifest["kind"] == "Secret":
            yield f"{render.name(manifest)}: the chart must not make secrets"

    if not selects(deployment["spec"]["selector"]["matchLabels"], nodes):
        yield "the Deployment does not select its own pods"
    tests = next((metadata["labels"] for manifest, metadata, _ in pods(found) if manifest["kind"] == "Pod"), {})
    ports = {port["name"] for port in template["containers"][0]["ports"]}
    for service in (manifest for manifest in found if manifest["kind"] == "Service"):
        if not selects(service["spec"]["selector"], nodes) or selects(service["spec"]["selector"], tests):
            yield f"{render.name(service)} does not select the nodes and nothing else"
        if not {port["targetPort"] for port in service["spec"]["ports"]} <= ports:
            yield f"{render.name(service)} leads to a port that no node has"

    monitors = [manifest for manifest in found if manifest["kind"] in ("ServiceMonitor", "PodMonitor")]
    scraped = 0
    for monitor in monitors:
        selector = monitor["spec"]["selector"]["matchLabels"]
        if monitor["kind"] == "PodMonitor":
            scraped += selects(selector, nodes)
        else:
            services = (manifest for manifest in found if manifest["kind"] == "Service")
            scraped += sum(selects(selector, service["metadata"]["labels"]) for service in services)
    if monitors and scraped != 1:
        yield f"every node is scraped {scraped} times"

    scalers = [manifest["kind"] for manifest in found if manifest["kind"] in ("HorizontalPodAutoscaler", "ScaledObject")]
    if len(scalers) > 1:
        yield f"{' and '.join(scalers)} would fight"
    if scalers and "replicas" in deployment["spec"]:
        yield "a fleet that is scaled has its number of nodes written in the manifest"
