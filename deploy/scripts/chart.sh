#!/usr/bin/env bash
# Checks the chart helm/fanway without a cluster: lint, unit tests, every manifest of the matrix helm/fanway/ci against the
# schemas of several versions of Kubernetes and of the custom resources, every settings file against the gateway itself, and
# that README and schema are up to date.
#
#   chart.sh          check
#   chart.sh tools    only install what it takes
#   chart.sh crds     only fetch the definitions of custom resources, into target/tools/crds
#   chart.sh readme   write the chart's README
#
#   FANWAY_BIN   the gateway (default: target/ci/fanway)
#
# Tools are kept in target/tools and installed when missing; it takes Go, Python 3 and openssl.
set -euo pipefail

HELM=v3.22.0
HELM_UNITTEST=v1.1.2
HELM_DOCS=v1.14.2
KUBERNETES_VALIDATE=1.37.0
# For what is rendered once only; a Helm built by `go install` would take 1.20.
KUBERNETES=1.34.0
# Where custom resources are defined: module, version, file.
CRDS=(
    "github.com/prometheus-operator/prometheus-operator v0.85.0 example/prometheus-operator-crd/monitoring.coreos.com_podmonitors.yaml"
    "github.com/prometheus-operator/prometheus-operator v0.85.0 example/prometheus-operator-crd/monitoring.coreos.com_servicemonitors.yaml"
    "github.com/prometheus-operator/prometheus-operator v0.85.0 example/prometheus-operator-crd/monitoring.coreos.com_prometheusrules.yaml"
    "github.com/kedacore/keda/v2 v2.21.0 config/crd/bases/keda.sh_scaledobjects.yaml"
    "github.com/grafana/grafana-operator/v5 v5.18.0 config/crd/bases/grafana.integreatly.org_grafanadashboards.yaml"
    "sigs.k8s.io/gateway-api v1.6.3 config/crd/standard/gateway.networking.k8s.io_httproutes.yaml"
)

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
cd "$root"
tools=$root/target/tools
chart=helm/fanway
export PATH=$tools/bin:$tools/go/bin:$PATH

say() { echo "chart: $*"; }

# Whether something is there in the wanted version; the mark is removed before it is made anew.
current() { [ "$(cat "$tools/$1.version" 2>/dev/null)" = "$2" ]; }
mark() { echo "$2" >"$tools/$1.version"; }

# What cannot be installed by `go install pkg@version`, because it replaces a dependency: a module of our own with all that
# it requires and replaces does the same.
install_replacing() { # module version package
    local module=$1 version=$2 package=$3 dir mod
    dir=$(mktemp -d)
    mod=$(cd "$dir" && go mod download -json "$module@$version" | sed -n 's/.*"GoMod": "\(.*\)".*/\1/p')
    {
        sed 's/^module .*/module tools/' "$mod"
        printf '\nrequire %s %s\n' "$module" "$version"
    } >"$dir/go.mod"
    (cd "$dir" && go build -mod=mod -ldflags '-s -w' -o "$tools/bin/${package##*/}" "$package")
    rm -rf "$dir"
}

install_tools() {
    local tool
    for tool in go python3 openssl; do
        command -v "$tool" >/dev/null || { say "needs $tool, which is not installed" >&2; exit 1; }
    done
    mkdir -p "$tools/bin"
    export GOBIN=$tools/bin CGO_ENABLED=0
    if ! current helm "$HELM"; then
        say "installing Helm $HELM"
        go install -ldflags "-s -w -X helm.sh/helm/v3/internal/version.version=$HELM" "helm.sh/helm/v3/cmd/helm@$HELM"
        mark helm "$HELM"
    fi
    if ! current helm-docs "$HELM_DOCS"; then
        say "installing helm-docs $HELM_DOCS"
        go install -ldflags '-s -w' "github.com/norwoodj/helm-docs/cmd/helm-docs@$HELM_DOCS"
        mark helm-docs "$HELM_DOCS"
    fi
    if ! current helm-unittest "$HELM_UNITTEST"; then
        say "installing helm-unittest $HELM_UNITTEST"
        install_replacing github.com/helm-unittest/helm-unittest "$HELM_UNITTEST" \
            github.com/helm-unittest/helm-unittest/cmd/helm-unittest
        mark helm-unittest "$HELM_UNITTEST"
    fi
    if ! current python "$KUBERNETES_VALIDATE"; then
        say "installing kubernetes-validate $KUBERNETES_VALIDATE"
        rm -rf "$tools/python"
        python3 -m venv "$tools/python"
        "$tools/python/bin/pip" install --quiet --disable-pip-version-check "kubernetes-validate==$KUBERNETES_VALIDATE"
        mark python "$KUBERNETES_VALIDATE"
    fi
    fetch_crds
}

fetch_crds() {
    current crds "${CRDS[*]}" && return
    say "fetching the definitions of custom resources"
    local entry module version file dir
    mkdir -p "$tools/crds"
    rm -f "$tools"/crds/*
    for entry in "${CRDS[@]}"; do
        read -r module version file <<<"$entry"
        dir=$(cd "$tools" && GOWORK=off go mod download -json "$module@$version" | sed -n 's/.*"Dir": "\(.*\)".*/\1/p')
        install -m 0644 "$dir/$file" "$tools/crds/"
    done
    mark crds "${CRDS[*]}"
}

readme() { helm-docs --chart-search-root "$chart" --template-files README.md.gotmpl --sort-values-order file --log-level error "$@"; }

check() {
    local values
    for values in "$chart"/ci/*-values.yaml; do
        # Its output is shown only where it finds something.
        helm lint --strict --quiet --kube-version "$KUBERNETES" "$chart" --values "$values" || { say "lint fails with $values"; exit 1; }
    done
    say "lint: $(ls "$chart"/ci/*-values.yaml | wc -l) sets of values"

    helm-unittest --strict "$chart"

    if ! diff -u "$chart/README.md" <(readme --dry-run); then
        say "README.md is not up to date: deploy/scripts/chart.sh readme"
        exit 1
    fi

    FANWAY_BIN=${FANWAY_BIN:-$root/target/ci/fanway} PYTHONPATH=deploy/checks PYTHONDONTWRITEBYTECODE=1 \
        "$tools/python/bin/python" -m chart "$chart" "$tools/crds"
    say "fine"
}

case ${1:-check} in
    check) install_tools && check ;;
    readme) install_tools && readme ;;
    tools) install_tools ;;
    crds) fetch_crds ;;
    *) sed -n '2,14p' "${BASH_SOURCE[0]}" >&2; exit 64 ;;
esac
