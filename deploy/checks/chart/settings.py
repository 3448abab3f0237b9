"""Every settings file that the chart renders, against the gateway itself (`fanway check-config`), with made-up secrets."""

import os
import pathlib
import subprocess
import tempfile

from . import render


def _run(*command: str, **options) -> subprocess.CompletedProcess:
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, **options)


def check(chart: str, versions: list[str], binary: str, fail) -> int:
    """All of the matrix. Returns how many files the gateway was shown."""
    if not pathlib.Path(binary).is_file():
        fail(f"{binary} is not there: make build")
        return 0
    files = render.matrix(chart)
    with tempfile.TemporaryDirectory() as folder:
        secrets = _secrets(pathlib.Path(folder))
        for values in files:
            for version in (versions[0], versions[-1]):
                found = render.manifests(chart, values, version)
                problem = _refusal(binary, found, pathlib.Path(folder), secrets)
                if problem:
                    fail(f"{values}, Kubernetes {version}: {problem}")
    return len(files)


def _secrets(folder: pathlib.Path) -> dict[str, str]:
    """One of each kind, by the last word of the environment variable."""
    _run("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2",
         "-subj", "/CN=fanway", "-keyout", str(folder / "tls.key"), "-out", str(folder / "tls.crt"))
    key = _run("openssl", "genpkey", "-algorithm", "ed25519").stdout
    public = _run("openssl", "pkey", "-pubout", input=key).stdout
    return {"PASSWORD": "made up", "SECRET": "0123456789abcdef" * 4, "HASH": "0123456789abcdef" * 4, "KEY": public}


def _refusal(binary: str, found: tuple[dict, ...], folder: pathlib.Path, secrets: dict[str, str]) -> str | None:
    container = render.one(found, "Deployment")["spec"]["template"]["spec"]["containers"][0]
    text = render.one(found, "ConfigMap")["data"]["fanway.toml"]
    mounted = {mount["name"]: mount["mountPath"] for mount in container["volumeMounts"]}
    environment = {"PATH": os.environ["PATH"]}
    for variable in container["env"]:
        if "valueFrom" in variable:
            environment[variable["name"]] = secrets[variable["name"].rsplit("_", 1)[1]]
    for volume, files in (("tls", ("tls.crt", "tls.key")), ("redis-tls", ("authorities.pem", "ca.crt"))):
        for file in files:
            if volume in mounted:
                there = folder / ("tls.key" if file.endswith(".key") else "tls.crt")
                text = text.replace(f"{mounted[volume]}/{file}", str(there))
    path = folder / "fanway.toml"
    path.write_text(text)
    done = _run(binary, "check-config", str(path), env=environment)
    return done.stderr.strip() or done.stdout.strip() if done.returncode else None
