#!/usr/bin/env bash
# `make compose-check`: builds the image with deploy/Dockerfile and runs docker-compose.yml with it, for real.
#
# It needs no Docker on the machine and no registry: a Docker engine from Debian's packages (unpacked, not installed) runs in
# namespaces of its own, and the images that Dockerfile and docker-compose.yml name are made here under the same names, from
# what is installed. Grafana is left out, because nothing here could stand for it.
#
#   PROFILE=ci        builds a less optimised binary, in a third of the time
#   FANWAY_BIN=FILE   builds nothing and runs this binary
#   KEEP=1            leaves everything running
#
# Everything is below target/docker; a second run finds most of it done. target/docker/fanway.tar is the image, which
# `make kubernetes` takes if IMAGE names it.
set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../.." && pwd)
cd "$root"
base=$root/target/docker
debian=$base/debian
socket=$base/run/docker.sock
profile=${PROFILE:-release}
rust=$(sed -n 's/^channel = "\(.*\)"/\1/p' rust-toolchain.toml)
compose=$root/target/tools/image/bin/docker-compose
export DOCKER_HOST=unix://$socket DOCKER_CONFIG=$base/config FANWAY_IMAGE=fanway:check

say() { printf '%s\n' "$*" >&2; }

problems=()
[[ $(uname -sm) == "Linux x86_64" ]] || problems+=("it is written for Linux on x86_64, this is $(uname -sm)")
((EUID == 0)) || problems+=("it needs root, for namespaces and mounts")
grep -qs '^VERSION_CODENAME=bookworm' /etc/os-release || problems+=("it takes the Docker engine from Debian 12, whose libraries must fit")
grep -qw overlay /proc/filesystems || problems+=("the kernel has no overlay file system")
if ((EUID == 0)) && ! unshare -n -m true 2>/dev/null; then problems+=("namespaces cannot be made here"); fi
for program in apt-get dpkg nsenter unshare node npm redis-server redis-cli haproxy prometheus wget rustc; do
    command -v "$program" >/dev/null || problems+=("it needs $program (make setup)")
done
if ((${#problems[@]})); then
    say "Docker cannot be run on this machine:"
    printf '  - %s\n' "${problems[@]}" >&2
    exit 1
fi

"$here/npm.sh" deploy/e2e

# ---- the engine

packages=(docker.io containerd runc iptables libip4tc2 libip6tc2 libxtables12 libnetfilter-conntrack3 libnfnetlink0 libnftnl11
    libmnl0 debootstrap)
"$here/debian.sh" "$debian" "${packages[@]}"
[[ -x $compose ]] || "$here/image.sh" >/dev/null
docker() { "$debian/usr/bin/docker" "$@"; }

daemon=''
# engine NETWORK [OPTION...]: starts it, with the machine's network (to build) or with one of its own (to run).
engine() {
    local network=$1 space=(-m --propagation private)
    shift
    [[ $network == own ]] && space+=(-n)
    mkdir -p "$base/run" "$base/usr.upper" "$base/usr.work" "$base/etc.upper" "$base/etc.work" "$debian/etc"
    setsid unshare "${space[@]}" bash -euc "
        for name in usr etc; do
            mount -t overlay overlay -o lowerdir=$debian/\$name:/\$name,upperdir=$base/\$name.upper,workdir=$base/\$name.work /\$name
        done
        mount -t tmpfs tmpfs /run
        [ $network != own ] || ip link set lo up
        exec /usr/sbin/dockerd -H $DOCKER_HOST --data-root $base/data --exec-root /run/docker --pidfile /run/docker.pid $*
    " >"$base/dockerd-$network.log" 2>&1 </dev/null &
    daemon=$!
    local i
    for ((i = 0; i < 150; i++)); do
        if docker info >/dev/null 2>&1; then return; fi
        kill -0 "$daemon" 2>/dev/null || break
        sleep 0.2
    done
    say "dockerd did not start: $base/dockerd-$network.log"
    tail -5 "$base/dockerd-$network.log" >&2
    return 1
}

halt() {
    [[ -n $daemon ]] || return 0
    kill "$daemon" 2>/dev/null || true
    local i
    for ((i = 0; i < 100; i++)); do
        kill -0 "$daemon" 2>/dev/null || break
        sleep 0.2
    done
    kill -KILL "$daemon" 2>/dev/null || true
    daemon=''
    find /sys/fs/cgroup/*/docker -depth -type d -exec rmdir {} \; 2>/dev/null || true
}

finish() {
    local code=$?
    if [[ -n ${KEEP:-} && -n $daemon ]]; then
        say "still running: DOCKER_HOST=$DOCKER_HOST; kill $daemon ends it"
    else
        if [[ -n $daemon ]]; then
            "$compose" logs --no-color >"$base/compose.log" 2>&1 || true
            "$compose" down --volumes --timeout 5 >/dev/null 2>&1 || true
        fi
        halt
    fi
    exit "$code"
}
trap finish EXIT
trap 'exit 130' INT TERM

# ---- the images that are named

# stand_in NAME BINARY [ARGUMENT...]: an image of that name with what is installed here.
stand_in() {
    local name=$1
    shift
    "$root/deploy/kubernetes/image.sh" "$base/image.tar" "$name" "$@"
    docker load --quiet --input "$base/image.tar" >/dev/null
    rm "$base/image.tar"
}
path() { command -v "$1"; }
named() { "$compose" config --format json | node -e '
    console.log(JSON.parse(require("fs").readFileSync(0, "utf8")).services[process.argv[1]].image);' "$1"; }

rust_image() {
    docker image inspect "rust:$rust-bookworm" >/dev/null 2>&1 && return
    say "a Debian with a compiler, by debootstrap"
    rm -rf "$base/rust"
    DEBOOTSTRAP_DIR=$debian/usr/share/debootstrap "$debian/usr/sbin/debootstrap" --variant=minbase \
        --include=gcc,libc6-dev,make,ca-certificates bookworm "$base/rust" >"$base/debootstrap.log"
    # The toolchain itself, in place of rustup; only what compiles.
    local toolchain
    toolchain=$(rustc "+$rust" --print sysroot 2>/dev/null || rustc --print sysroot)
    cp -a "$toolchain/bin" "$toolchain/lib" "$base/rust/usr/local/"
    # Where the machine trusts authorities of its own, so must the build.
    cp -a /etc/ssl/certs/. "$base/rust/etc/ssl/certs/"
    tar -C "$base/rust" -c . | docker import \
        --change 'ENV PATH=/usr/local/cargo/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin CARGO_HOME=/usr/local/cargo' \
        - "rust:$rust-bookworm" >/dev/null
    rm -rf "$base/rust"
}

build() {
    local began=$SECONDS size container
    say "docker build ($profile)"
    DOCKER_BUILDKIT=1 docker build --network host --file deploy/Dockerfile --build-arg "PROFILE=$profile" --progress plain \
        --tag "$FANWAY_IMAGE" . >"$base/build.log" 2>&1 || { tail -30 "$base/build.log" >&2; exit 1; }
    size=$(docker image inspect --format '{{.Size}}' "$FANWAY_IMAGE")
    container=$(docker create "$FANWAY_IMAGE")
    docker cp "$container:/usr/local/bin/fanway" "$base/fanway"
    docker rm "$container" >/dev/null
    docker tag "$FANWAY_IMAGE" registry.local/fanway:local
    docker save --output "$base/fanway.tar" registry.local/fanway:local
    say "built in $((SECONDS - began)) s: image $((size / 1000000)) MB, binary $(($(stat -c %s "$base/fanway") / 1000000)) MB"
}

engine host --bridge=none --iptables=false --ip-forward=false --ip-masq=false
say "images to stand in for those of a registry"
PACKAGES="libc6 libgcc-s1 libstdc++6" stand_in gcr.io/distroless/cc-debian12:nonroot ''
MORE="$(path redis-server) $(path redis-cli)" stand_in "$(named redis)" ''
MORE=$(path wget) stand_in "$(named balancer)" "$(path haproxy)" -f /usr/local/etc/haproxy/haproxy.cfg
MORE=$(path wget) FOLDERS=/prometheus stand_in "$(named prometheus)" "$(path prometheus)"

if [[ -n ${FANWAY_BIN:-} ]]; then
    stand_in "$FANWAY_IMAGE" "$FANWAY_BIN" serve
else
    rust_image
    build
fi
halt

# ---- the fleet

engine own
say "docker compose up"
# By name, since there is nothing to stand for Grafana; with `token`, which has ended by then and must not be a failure.
began=$SECONDS
"$compose" up --detach --wait --wait-timeout 120 redis token gateway-1 gateway-2 balancer prometheus
say "up after $((SECONDS - began)) s"
token=$("$compose" run --rm --no-deps token)
nsenter -t "$daemon" -n env FANWAY_TOKEN="$token" COMPOSE="$compose" node deploy/scripts/compose-check.mjs
