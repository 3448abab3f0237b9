#!/usr/bin/env bash
# npm.sh FOLDER...: installs the npm packages of folders, at the versions of their lock files, where they are missing or older.
set -euo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/../.."
for folder in "$@"; do
    if [[ ! $folder/node_modules/.package-lock.json -nt $folder/package-lock.json ]]; then (cd "$folder" && npm ci --silent); fi
done
