#!/usr/bin/env bash
# What a cluster is made of, from source and without a registry.
#
#   build.sh check     whether this machine can run a cluster; says why not
#   build.sh           Debian's container runtime (unpacked, not installed); Kubernetes, etcd, CoreDNS and Helm from their
#                      modules. What is there already is not made again
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/settings.sh"

check() {
    local problems=() command
    [[ $(uname -sm) == "Linux x86_64" ]] || problems+=("it is written for Linux on x86_64, this is $(uname -sm)")
    ((EUID == 0)) || problems+=("it needs root, for namespaces and mounts")
    for command in go apt-get dpkg nsenter unshare ip openssl node tar sha256sum; do
        command -v "$command" >/dev/null || problems+=("it needs $command")
    done
    grep -qs '^VERSION_CODENAME=bookworm' /etc/os-release ||
        problems+=("it takes its container runtime from Debian 12, whose libraries must fit")
    # The kubelet of this version still runs with version 1 of control groups, if it is told to; version 2 was not tried.
    [[ -d /sys/fs/cgroup/memory && -d /sys/fs/cgroup/cpuset ]] || problems+=("it needs control groups of version 1")
    if ((EUID == 0)) && ! unshare -n -m true 2>/dev/null; then problems+=("namespaces cannot be made here"); fi
    grep -qw overlay /proc/filesystems || problems+=("the kernel has no overlay file system")
    local free
    free=$(df --output=avail -BG "$ROOT" | tail -1 | tr -dc 0-9)
    ((free >= 8)) || [[ -x $BIN/kube-apiserver ]] || problems+=("it needs 8 GB of disk, $free are free")
    ((${#problems[@]} == 0)) && return 0
    say "A Kubernetes cannot be run on this machine:"
    printf '  - %s\n' "${problems[@]}" >&2
    return 1
}

PACKAGES=(runc containerd containernetworking-plugins iptables nftables conntrack ipset socat ethtool libip4tc2 libip6tc2
    libxtables12 libnetfilter-conntrack3 libnfnetlink0 libnftnl11 libmnl0 libnftables1 libjansson4 libipset13)

# Kubernetes' own go.mod points at folders of its repository; a module of ours points at their published twins instead.
kubernetes_module() {
    local folder=$BASE/modules/kubernetes-$KUBERNETES source
    mkdir -p "$folder"
    cd "$folder"
    [[ -s go.sum ]] && return
    go mod download "k8s.io/kubernetes@v$KUBERNETES"
    source=$GOMODCACHE/cache/download/k8s.io/kubernetes/@v/v$KUBERNETES.mod
    {
        printf 'module cluster\n\n'
        grep -E '^(go|godebug) ' "$source"
        printf '\nrequire k8s.io/kubernetes v%s\n\nreplace (\n' "$KUBERNETES"
        awk -v version="v0.${KUBERNETES#1.}" '/=> .*staging/ {print "\t" $1 " => " $1 " " version}' "$source"
        echo ')'
    } >go.mod
    {
        printf '//go:build tools\n\npackage cluster\n\nimport (\n'
        printf '\t_ "k8s.io/kubernetes/cmd/%s"\n' "${COMMANDS[@]}"
        echo ')'
    } >tools.go
    go mod tidy
}

COMMANDS=(kube-apiserver kube-controller-manager kube-scheduler kubelet kube-proxy kubectl)

build() {
    export GOMODCACHE=$BASE/gomod GOCACHE=$BASE/gocache GOFLAGS=-mod=mod CGO_ENABLED=0 TMPDIR=$BASE/tmp
    mkdir -p "$BIN" "$TMPDIR"
    "$ROOT/deploy/scripts/debian.sh" "$DEBIAN" "${PACKAGES[@]}"
    local command version=k8s.io/component-base/version missing=()
    for command in "${COMMANDS[@]}"; do [[ -x $BIN/$command ]] || missing+=("$command"); done
    if ((${#missing[@]})); then
        kubernetes_module
        local flags="-s -w -X $version.gitVersion=v$KUBERNETES -X $version.gitMajor=1 -X $version.gitTreeState=clean"
        flags+=" -X $version.gitMinor=$(cut -d. -f2 <<<"$KUBERNETES")"
        for command in "${missing[@]}"; do
            say "building $command $KUBERNETES"
            go build -trimpath -ldflags "$flags" -o "$BIN/$command" "k8s.io/kubernetes/cmd/$command"
        done
    fi
    if [[ ! -x $BASE/bin/etcd-$ETCD ]]; then
        say "building etcd $ETCD"
        mkdir -p "$BASE/modules/etcd-$ETCD"
        cd "$BASE/modules/etcd-$ETCD"
        printf 'module etcd\n\ngo 1.26\n\nrequire go.etcd.io/etcd/server/v3 v%s\n' "$ETCD" >go.mod
        printf '//go:build tools\n\npackage etcd\n\nimport _ "go.etcd.io/etcd/server/v3"\n' >tools.go
        go mod tidy
        go build -trimpath -ldflags "-s -w" -o "$BASE/bin/etcd-$ETCD" go.etcd.io/etcd/server/v3
    fi
    if [[ ! -x $BASE/bin/coredns-$COREDNS ]]; then
        say "building CoreDNS $COREDNS"
        (build_coredns)
    fi
    if [[ ! -x $BASE/bin/helm-$HELM/helm ]]; then
        say "building Helm $HELM"
        GOBIN=$BASE/bin/helm-$HELM go install -trimpath -ldflags "-s -w" "helm.sh/helm/v3/cmd/helm@v$HELM"
    fi
}

# A CoreDNS with what a cluster needs; with all its plugins it would take as long to build as Kubernetes.
build_coredns() {
    mkdir -p "$BASE/modules/coredns-$COREDNS"
    cd "$BASE/modules/coredns-$COREDNS"
    printf 'module coredns\n\ngo 1.26\n\nrequire github.com/coredns/coredns v%s\n' "$COREDNS" >go.mod
    cat >main.go <<'GO'
package main

import (
	"github.com/coredns/coredns/core/dnsserver"
	"github.com/coredns/coredns/coremain"
	_ "github.com/coredns/coredns/plugin/bind"
	_ "github.com/coredns/coredns/plugin/cache"
	_ "github.com/coredns/coredns/plugin/errors"
	_ "github.com/coredns/coredns/plugin/kubernetes"
)

func main() {
	dnsserver.Directives = []string{"bind", "errors", "cache", "kubernetes"}
	coremain.Run()
}
GO
    go mod tidy
    go build -trimpath -ldflags "-s -w" -o "$BASE/bin/coredns-$COREDNS" .
}

case ${1:-build} in
check | build) "${1:-build}" ;;
*) sed -n '2,6s/^# \{0,1\}//p' "${BASH_SOURCE[0]}" && exit 64 ;;
esac
