# shellcheck shell=bash disable=SC2034
# What build.sh and cluster.sh have in common: versions, folders, and how to say something. Sourced.

HERE=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
ROOT=$(cd "$HERE/../.." && pwd)
KUBERNETES=${KUBERNETES:-1.36.3}
ETCD=${ETCD:-3.6.16}
COREDNS=${COREDNS:-1.14.2}
HELM=${HELM:-3.22.0}

BASE=$ROOT/target/kubernetes
BIN=$BASE/bin/$KUBERNETES
DEBIAN=$BASE/debian     # Debian packages, unpacked
STATE=$BASE/state       # of the running cluster
IMAGES=$BASE/images
# Where `make setup` puts a Go, if the machine has none.
export PATH=$ROOT/target/tools/go/bin:$PATH

say() { printf '%s\n' "$*" >&2; }
die() { say "cluster.sh: $*"; exit 1; }
