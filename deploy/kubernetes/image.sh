#!/usr/bin/env bash
# image.sh TAR NAME:TAG BINARY [ARGUMENT...]: an image with one program of this machine, as a tar that containerd and Docker
# take.
#
# For machines without a registry: the program as /usr/local/bin/NAME, the libraries it is linked against, the authorities
# for TLS and a user that is not root, like the image that deploy/Dockerfile makes. MORE="/bin/a /bin/b" puts further programs
# beside it, FOLDERS="/data" makes folders that anyone may write to, PACKAGES="libc6" adds the libraries of packages of
# Debian. Without a program (BINARY is "") nothing is started by itself.
set -euo pipefail

tar=$1 reference=$2 binary=$3
shift 3
name=$(basename "${binary:-none}")
read -ra programs <<<"$binary ${MORE:-}"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
root=$work/root

for program in "${programs[@]}"; do install -D -m 0755 "$program" "$root/usr/local/bin/$(basename "$program")"; done
for folder in /tmp ${FOLDERS:-}; do install -d -m 1777 "$root$folder"; done
install -d "$root/etc"
echo 'nonroot:x:65532:65532::/:/sbin/nologin' >"$root/etc/passwd"
if [[ -e /etc/ssl/certs/ca-certificates.crt ]]; then
    install -D -m 0644 /etc/ssl/certs/ca-certificates.crt "$root/etc/ssl/certs/ca-certificates.crt"
fi
# Every library that the loader would take, and the loader itself, where it looks for them.
for program in "${programs[@]}"; do
    { ldd "$program" 2>/dev/null || true; } | grep -oE '/[^ )]+' | while read -r library; do
        install -D -m 0755 "$(readlink -f "$library")" "$root/$library"
    done
done
for package in ${PACKAGES:-}; do
    { dpkg -L "$package" | grep -E '^(/usr)?/lib(64)?/([^/]+/)?[^/]+\.so[^/]*$' || true; } | while read -r library; do
        install -D -m 0755 "$(readlink -f "$library")" "$root/$library"
    done
done

# The same times and owners always, so that the same program makes the same image.
pack() { tar --sort=name --mtime=@0 --owner=0 --group=0 --numeric-owner -C "$1" -cf "$2" "${@:3}"; }
digest() { sha256sum "$1" | cut -d' ' -f1; }
json() { printf '"%s",' "$@" | sed 's/,$//'; }

mkdir "$work/archive"
pack "$root" "$work/archive/layer.tar" .
entrypoint='' arguments=''
[[ -z $binary ]] || entrypoint=$(json "/usr/local/bin/$name")
(($# == 0)) || arguments=$(json "$@")
cat >"$work/config.json" <<JSON
{"architecture": "amd64", "os": "linux",
 "config": {"Entrypoint": [$entrypoint], "Cmd": [$arguments], "User": "65532:65532", "Env": ["PATH=/usr/local/bin"]},
 "rootfs": {"type": "layers", "diff_ids": ["sha256:$(digest "$work/archive/layer.tar")"]},
 "history": [{"created_by": "deploy/kubernetes/image.sh"}]}
JSON
config=$(digest "$work/config.json").json
mv "$work/config.json" "$work/archive/$config"
printf '[{"Config": "%s", "RepoTags": ["%s"], "Layers": ["layer.tar"]}]' "$config" "$reference" >"$work/archive/manifest.json"
mkdir -p "$(dirname "$tar")"
pack "$work/archive" "$tar" "$config" layer.tar manifest.json
