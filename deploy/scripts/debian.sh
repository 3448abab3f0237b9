#!/usr/bin/env bash
# debian.sh FOLDER PACKAGE...: packages of Debian, unpacked into a folder and not installed; an overlay over /usr and /etc
# makes programs find each other. What is there already is not made again.
set -euo pipefail

folder=$1
shift
[[ -e $folder/done ]] && exit
rm -rf "$folder"
mkdir -p "$folder/packages"
(cd "$folder/packages" && apt-get -qq download "$@")
for package in "$folder"/packages/*.deb; do dpkg -x "$package" "$folder"; done
rm -r "$folder/packages"
# Packages from before the merge of /bin into /usr/bin: an overlay covers /usr only.
for name in bin sbin lib; do
    [[ -d $folder/$name ]] || continue
    mkdir -p "$folder/usr/$name"
    cp -a "$folder/$name/." "$folder/usr/$name/"
    rm -r "${folder:?}/$name"
done
for name in iptables iptables-save iptables-restore ip6tables ip6tables-save ip6tables-restore; do
    ln -sf xtables-legacy-multi "$folder/usr/sbin/$name"
done
touch "$folder/done"
