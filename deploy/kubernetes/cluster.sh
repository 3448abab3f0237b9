#!/usr/bin/env bash
# A small, real, current Kubernetes on one machine, from what build.sh has made.
#
#   cluster.sh up [MACHINES]      control plane and so many machines (2)
#   cluster.sh in COMMAND...      runs a command on the first machine, where kubectl works and Services are reached
#   cluster.sh down               stops everything and forgets the cluster's state
#
# Every "machine" is a network and a mount namespace with a containerd, a kubelet and a kube-proxy of its own. The first has
# the control plane as well, and a bridge that the others are plugged into. /usr, /var and /etc are overlays there, so
# nothing is written to the real ones; the network of the machine that this runs on is not touched at all.
#
# Everything that is built or kept is below target/kubernetes. Images are the tar files in target/kubernetes/images.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/settings.sh"

NET=192.0.2             # of the machines: the first is .10, the second .11
PODS=10.244             # the first machine's pods are in .0.0/24, the second's in .1.0/24
SERVICES=10.96.0.0/24
DNS=10.96.0.10
API=https://$NET.10:6443
ADMIN=$STATE/admin.kubeconfig
CONTAINERD=/run/containerd/containerd.sock

# ---------------------------------------------------------------------------------------------------- machines

# on MACHINE COMMAND...: runs it there and waits.
on() {
    local machine=$1
    shift
    nsenter -t "$(cat "$STATE/machine$machine.pid")" -n -m -- "$@"
}

# start MACHINE NAME COMMAND...: runs it there in the background; its output goes to NAME.log, its id to NAME.pid.
start() {
    local machine=$1 name=$2
    shift 2
    nsenter -t "$(cat "$STATE/machine$machine.pid")" -n -m -- setsid "$@" >"$STATE/$name.log" 2>&1 </dev/null &
    echo $! >"$STATE/$name.pid"
}

# within SECONDS COMMAND...: asks it until it succeeds.
within() {
    local seconds=$1 i
    shift
    for ((i = 0; i < seconds * 5; i++)); do
        if "$@" >/dev/null 2>&1; then return; fi
        sleep 0.2
    done
    say "waited $seconds seconds for: $*"
    return 1
}

kubectl() { on 1 "$BIN/kubectl" --kubeconfig="$ADMIN" "$@"; }

machine() {
    local i=$1 pid=$STATE/machine$1.pid name
    for name in usr var etc; do mkdir -p "$STATE/$name.upper$i" "$STATE/$name.work$i" "$DEBIAN/$name"; done
    setsid unshare -n -m --propagation private bash -euc "
        for name in usr var etc; do
            mount -t overlay overlay -o \
                lowerdir=$DEBIAN/\$name:/\$name,upperdir=$STATE/\$name.upper$i,workdir=$STATE/\$name.work$i /\$name
        done
        mount -t tmpfs tmpfs /run
        mkdir -p /run/lock
        mount --make-rshared /
        ip link set lo up
        echo 1 >/proc/sys/net/ipv4/ip_forward
        echo \$\$ >$pid
        exec sleep infinity" >"$STATE/machine$i.log" 2>&1 </dev/null &
    within 10 test -s "$pid"
    if ((i == 1)); then
        on 1 ip link add machines type bridge
        on 1 ip addr add "$NET.10/24" dev machines
        on 1 ip link set machines up
        on 1 ip route add default dev machines
    else
        on 1 ip link add "machine$i" type veth peer name eth0 netns "$(cat "$pid")"
        on 1 ip link set "machine$i" master machines up
        on "$i" ip addr add "$NET.$((9 + i))/24" dev eth0
        on "$i" ip link set eth0 up
        on "$i" ip route add default via "$NET.10"
        # Each knows where the pods of the others are.
        on 1 ip route add "$PODS.$((i - 1)).0/24" via "$NET.$((9 + i))"
        on "$i" ip route add "$PODS.0.0/24" via "$NET.10"
    fi
    # Traffic between pods of one machine has to pass kube-proxy's rules too.
    on "$i" sh -c 'echo 1 >/proc/sys/net/bridge/bridge-nf-call-iptables'
}

# kubeconfig NAME TOKEN: credentials for a part of the cluster.
kubeconfig() {
    cat >"$STATE/$1.kubeconfig" <<YAML
apiVersion: v1
kind: Config
current-context: cluster
clusters: [{name: cluster, cluster: {server: "$API", insecure-skip-tls-verify: true}}]
users: [{name: user, user: {token: "$2"}}]
contexts: [{name: cluster, context: {cluster: cluster, user: user}}]
YAML
}

control_plane() {
    local token
    token=$(openssl rand -hex 16)
    openssl genrsa -out "$STATE/accounts.key" 2048 2>/dev/null
    local name
    for name in clients proxy; do
        openssl req -x509 -newkey rsa:2048 -nodes -days 30 -subj "/CN=$name" \
            -keyout "$STATE/$name.key" -out "$STATE/$name.crt" 2>/dev/null
    done
    {
        echo "$token-admin,admin,u0,system:masters"
        for name in kube-controller-manager kube-scheduler kube-proxy; do echo "$token-$name,system:$name,$name"; done
        for name in 1 2 3; do echo "$token-node$name,system:node:node$name,node$name,system:nodes"; done
    } >"$STATE/tokens.csv"
    for name in admin kube-controller-manager kube-scheduler kube-proxy node1 node2 node3; do kubeconfig $name "$token-$name"; done

    start 1 etcd "$BASE/bin/etcd-$ETCD" --data-dir "$STATE/etcd" --listen-client-urls http://127.0.0.1:2379 \
        --advertise-client-urls http://127.0.0.1:2379 --unsafe-no-fsync --log-level warn
    # The last lines let other API servers join (metrics for autoscaling), and reach them by their addresses.
    start 1 kube-apiserver "$BIN/kube-apiserver" --etcd-servers=http://127.0.0.1:2379 --secure-port=6443 --bind-address=0.0.0.0 \
        --advertise-address="$NET.10" --service-cluster-ip-range="$SERVICES" --cert-dir="$STATE/certs" \
        --token-auth-file="$STATE/tokens.csv" --authorization-mode=Node,RBAC --enable-admission-plugins=NodeRestriction \
        --service-account-key-file="$STATE/accounts.key" --service-account-signing-key-file="$STATE/accounts.key" \
        --service-account-issuer=https://kubernetes.default.svc --allow-privileged=true \
        --kubelet-preferred-address-types=InternalIP --event-ttl=1h --client-ca-file="$STATE/clients.crt" \
        --requestheader-client-ca-file="$STATE/proxy.crt" --proxy-client-cert-file="$STATE/proxy.crt" \
        --proxy-client-key-file="$STATE/proxy.key" --requestheader-username-headers=X-Remote-User \
        --requestheader-group-headers=X-Remote-Group --requestheader-extra-headers-prefix=X-Remote-Extra- \
        --requestheader-allowed-names=proxy --enable-aggregator-routing=true
    within 90 kubectl get --raw=/readyz
    start 1 kube-controller-manager "$BIN/kube-controller-manager" --kubeconfig="$STATE/kube-controller-manager.kubeconfig" \
        --authentication-kubeconfig="$STATE/kube-controller-manager.kubeconfig" \
        --authorization-kubeconfig="$STATE/kube-controller-manager.kubeconfig" --leader-elect=false --bind-address=127.0.0.1 \
        --service-account-private-key-file="$STATE/accounts.key" --root-ca-file="$STATE/certs/apiserver.crt" \
        --use-service-account-credentials=true --horizontal-pod-autoscaler-sync-period=3s
    start 1 kube-scheduler "$BIN/kube-scheduler" --kubeconfig="$STATE/kube-scheduler.kubeconfig" \
        --authentication-kubeconfig="$STATE/kube-scheduler.kubeconfig" \
        --authorization-kubeconfig="$STATE/kube-scheduler.kubeconfig" --leader-elect=false --bind-address=127.0.0.1
    within 60 kubectl -n default get serviceaccount default
}

node() {
    local i=$1 name group
    mkdir -p "$STATE/cni$i" "$STATE/containerd$i"
    # A subtree of every control group, so that kubelets do not get into each other's way.
    for group in /sys/fs/cgroup/*/; do
        if [[ -f $group/cgroup.procs && $(stat -fc %T "$group") == cgroupfs ]]; then mkdir -p "$group/fanway-node$i"; fi
    done
    for name in cpus mems; do
        cat "/sys/fs/cgroup/cpuset/cpuset.$name" >"/sys/fs/cgroup/cpuset/fanway-node$i/cpuset.$name"
    done
    cat >"$STATE/cni$i/10-pods.conflist" <<JSON
{"cniVersion": "0.4.0", "name": "pods", "plugins": [
  {"type": "bridge", "bridge": "cni0", "isGateway": true, "ipMasq": true, "hairpinMode": true,
   "ipam": {"type": "host-local", "ranges": [[{"subnet": "$PODS.$((i - 1)).0/24"}]], "routes": [{"dst": "0.0.0.0/0"}]}},
  {"type": "portmap", "capabilities": {"portMappings": true}}]}
JSON
    cat >"$STATE/containerd$i.toml" <<TOML
version = 2
root = "$STATE/containerd$i"
state = "/run/containerd"
[grpc]
  address = "$CONTAINERD"
[plugins."io.containerd.internal.v1.opt"]
  path = "$STATE/opt$i"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "registry.local/pause:1"
  # Not every machine lets a process lower its score.
  restrict_oom_score_adj = true
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "/usr/lib/cni"
    conf_dir = "$STATE/cni$i"
TOML
    cat >"$STATE/kubelet$i.yaml" <<YAML
apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
containerRuntimeEndpoint: unix://$CONTAINERD
failCgroupV1: false
cgroupDriver: cgroupfs
cgroupRoot: /fanway-node$i
failSwapOn: false
oomScoreAdj: 0
address: 0.0.0.0
authentication: {anonymous: {enabled: true}, webhook: {enabled: false}}
authorization: {mode: AlwaysAllow}
clusterDomain: cluster.local
clusterDNS: [$DNS]
resolvConf: ""
imageGCHighThresholdPercent: 100
evictionHard: {memory.available: "100Mi"}
nodeStatusUpdateFrequency: 5s
YAML
    start "$i" "containerd$i" env PATH=/usr/sbin:/usr/bin:/sbin:/bin /usr/bin/containerd -c "$STATE/containerd$i.toml"
    within 20 on "$i" ctr -a "$CONTAINERD" version
    for name in "$IMAGES"/*.tar; do on "$i" ctr -a "$CONTAINERD" -n k8s.io images import "$name" >/dev/null; done
    start "$i" "kubelet$i" "$BIN/kubelet" --config="$STATE/kubelet$i.yaml" --kubeconfig="$STATE/node$i.kubeconfig" \
        --node-ip="$NET.$((9 + i))" --hostname-override="node$i" --root-dir=/var/lib/kubelet
    start "$i" "kube-proxy$i" "$BIN/kube-proxy" --proxy-mode=nftables --conntrack-max-per-core=0 \
        --conntrack-tcp-timeout-established=0 --conntrack-tcp-timeout-close-wait=0 --cluster-cidr="$PODS.0.0/16" \
        --kubeconfig="$STATE/kube-proxy.kubeconfig" --hostname-override="node$i" --oom-score-adj=0 --bind-address=0.0.0.0
    within 60 kubectl wait --for=condition=Ready "node/node$i" --timeout=1s
}

# Name resolution, as a process of the first machine behind the Service that pods are told of.
names() {
    cat >"$STATE/Corefile" <<COREFILE
cluster.local:53 {
    bind $NET.10
    errors
    cache 5
    kubernetes cluster.local {
        kubeconfig $ADMIN
    }
}
COREFILE
    start 1 coredns "$BASE/bin/coredns-$COREDNS" -conf "$STATE/Corefile"
    kubectl apply -f - >/dev/null <<YAML
apiVersion: v1
kind: Service
metadata: {name: kube-dns, namespace: kube-system}
spec:
  clusterIP: $DNS
  ports: [{name: dns, port: 53, protocol: UDP}, {name: dns-tcp, port: 53, protocol: TCP}]
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: kube-dns, namespace: kube-system, labels: {kubernetes.io/service-name: kube-dns}}
addressType: IPv4
ports: [{name: dns, port: 53, protocol: UDP}, {name: dns-tcp, port: 53, protocol: TCP}]
endpoints: [{addresses: ["$NET.10"], conditions: {ready: true}}]
YAML
}

up() {
    local machines=${1:-2} i
    ((machines >= 1 && machines <= 3)) || die "1 to 3 machines"
    [[ -e $STATE ]] && down
    mkdir -p "$STATE"
    for ((i = 1; i <= machines; i++)); do machine "$i"; done
    control_plane
    names
    for ((i = 1; i <= machines; i++)); do node "$i"; done
}

# ---------------------------------------------------------------------------------------------------- down

# stop NAME...: asks processes that `start` recorded to end, and kills what is left after four seconds.
stop() {
    local name pid left=() i
    for name in "$@"; do
        [[ -s $STATE/$name.pid ]] || continue
        pid=$(cat "$STATE/$name.pid")
        rm -f "$STATE/$name.pid"
        # The id could belong to somebody else by now.
        { tr '\0' ' ' <"/proc/$pid/cmdline" | grep -qE "$BASE|sleep infinity"; } 2>/dev/null || continue
        if kill "$pid" 2>/dev/null; then left+=("$pid"); fi
    done
    for ((i = 0; i < 20; i++)); do
        ((${#left[@]})) && kill -0 "${left[@]}" 2>/dev/null || return 0
        sleep 0.2
    done
    kill -KILL "${left[@]}" 2>/dev/null || true
}

down() {
    [[ -d $STATE ]] || return 0
    local i pid space process tasks
    stop $(cd "$STATE" && find . -name '*.pid' -printf '%P\n' | sed 's/\.pid$//' | grep -vE '^(machine|etcd|kube-apiserver|containerd)' || true)
    for i in 3 2 1; do
        [[ -s $STATE/containerd$i.pid ]] || continue
        for tasks in 1 2; do
            for pid in $(on "$i" ctr -a "$CONTAINERD" -n k8s.io tasks ls -q 2>/dev/null || true); do
                on "$i" ctr -a "$CONTAINERD" -n k8s.io tasks rm -f "$pid" >/dev/null 2>&1 || true
            done
        done
        stop "containerd$i"
    done
    stop kube-apiserver etcd
    for i in 3 2 1; do
        [[ -s $STATE/machine$i.pid ]] || continue
        pid=$(cat "$STATE/machine$i.pid")
        # Containers and their shims outlive containerd; they are those that live in our mount namespace.
        if space=$(readlink "/proc/$pid/ns/mnt"); then
            for process in /proc/[0-9]*; do
                [[ ${process#/proc/} != "$pid" && $(readlink "$process/ns/mnt" 2>/dev/null) == "$space" ]] || continue
                kill -KILL "${process#/proc/}" 2>/dev/null || true
            done
        fi
        stop "machine$i"
    done
    for i in 1 2 3; do
        find /sys/fs/cgroup/*/"fanway-node$i" -depth -type d -exec rmdir {} \; 2>/dev/null || true
    done
    rm -rf "$STATE"
}

case ${1:-} in
down) down ;;
up) shift && up "$@" ;;
in) shift && on 1 env PATH="$BIN:$BASE/bin/helm-$HELM:$PATH" KUBECONFIG="$ADMIN" KUBECACHEDIR="$BASE/tmp/kubectl" \
    HELM_CACHE_HOME="$BASE/tmp/helm" "$@" ;;
*) sed -n '2,13s/^# \{0,1\}//p' "${BASH_SOURCE[0]}" && exit 64 ;;
esac
