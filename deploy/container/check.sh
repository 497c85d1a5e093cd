#!/usr/bin/env bash
# Builds the final stage of the Dockerfile and runs it as the image says, without any image registry or container
# engine: the base image is made of Debian's packages, the program is one that was built before, and it runs in the
# image's root by chroot, read-only but for /data, as the image's user, without capabilities.
#
#     deploy/container/check.sh PROGRAM CONTAINED
#
# PROGRAM: the call-history binary. CONTAINED: the program of crates/lab that holds a call with it.
# Needs root, mmdebstrap and buildah.
set -euo pipefail
program=$(realpath "$1") contained=$(realpath "$2")
cd "$(dirname "$0")/../.."
work=$(mktemp -d)
image=call-history-check
buildah() { command buildah --storage-driver vfs --root "$work/storage" --runroot "$work/run" "$@"; }
trap 'buildah rm --all >/dev/null 2>&1 || true; rm -rf "$work"' EXIT
fails() {
    echo "container: $1" >&2
    exit 1
}

mmdebstrap --quiet --variant=minbase --include=ca-certificates bookworm "$work/base.tar"
base=$(buildah from scratch)
buildah add --quiet "$base" "$work/base.tar" / >/dev/null
buildah commit --quiet --rm "$base" debian:bookworm-slim >/dev/null
rm "$work/base.tar"

# The build stage is replaced by what it would have made; the final stage is taken as it is.
mkdir "$work/context" "$work/data"
cp "$program" "$work/context/call-history"
cp -r config LICENSE THIRD-PARTY-LICENSES.txt "$work/context"
{
    echo 'FROM scratch AS build'
    echo 'COPY call-history /call-history'
    echo 'COPY config /src/config'
    echo 'COPY LICENSE THIRD-PARTY-LICENSES.txt /src/'
    sed -n '/^FROM debian/,$p' Dockerfile
} >"$work/context/Dockerfile"
buildah bud --quiet --layers=false --pull-never --format docker --isolation chroot --tag "$image" "$work/context" \
    >/dev/null
said() { buildah inspect --type image --format "{{$1}}" "$image"; }
user=$(said .Docker.Config.User) folder=$(said .Docker.Config.WorkingDir)
[[ $(said .Docker.Config.Entrypoint) == '[call-history]' ]] || fails "another entrypoint"
[[ $(said .Docker.Config.Cmd) == '[start]' ]] || fails "another command"
[[ $(said .Docker.Config.StopSignal) == SIGTERM ]] || fails "another signal to stop"
[[ $(said .Docker.Config.Healthcheck.Test) == '[CMD call-history probe]' ]] || fails "another health check"
[[ $(said .Docker.Config.Volumes) == 'map[/data:{}]' ]] || fails "other volumes"
mapfile -t variables < <(said 'range .Docker.Config.Env}}{{println .}}{{end')
[[ ${variables[*]} == *tcache_count=0* ]] || fails "memory is not given back"
root=$(buildah mount "$(buildah from --pull-never "$image")")
du -sm "$root" | awk '{ print "image: " $1 " MB" }'

# enter PROGRAM ARGUMENTS...: runs a program of the image. It becomes the program, so that it gets the signals.
cat >"$work/enter" <<END
#!/bin/sh
exec unshare --mount --propagation private sh -c '
    set -e
    mount --bind "$root" "$root"
    mount --bind "$work/data" "$root/data"
    mount -t proc proc "$root/proc"
    mount --bind /dev "$root/dev"
    mount -o remount,bind,ro "$root"
    cd "$root"
    exec chroot --userspec="$user:\$(stat -c %g "$root/app")" --groups= . \\
        env -C "$folder" $(printf '%q ' "${variables[@]}") setpriv --no-new-privs "\$@"' enter "\$@"
END
chmod +x "$work/enter"
chown "$user" "$work/data"

# It is not root, its root file system takes nothing, and wrong settings end it with their status.
[[ $("$work/enter" id -u) == "$user" && $user != 0 ]] || fails "it runs as user $("$work/enter" id -u)"
"$work/enter" touch /data/file || fails "the data folder cannot be written to"
! "$work/enter" touch /app/file 2>/dev/null || fails "the root file system can be written to"
[[ $("$work/enter" grep CapEff /proc/self/status) == *0000000000000000 ]] || fails "it has capabilities"
status=0
env -u LIVEKIT_URL -u CALL_HISTORY_ENDPOINT "$work/enter" call-history config --check >/dev/null 2>&1 || status=$?
[[ $status == 78 ]] || fails "wrong settings end it with $status"
for licence in LICENSE THIRD-PARTY-LICENSES.txt; do
    [[ -s $root/usr/share/doc/call-history/$licence ]] || fails "no $licence"
done

"$contained" "$work/enter" call-history
[[ -z $(find "$work/data/pending" -name '*.json') ]] || fails "a record was left"
echo "container: ok"
