#!/usr/bin/env bash
# Builds the final stage of the Dockerfile and runs it as an operator would, without any image registry: the base
# image is made of Debian's packages, and the program is one that was built before.
#
#     deploy/container/check.sh PROGRAM CONTAINED
#
# PROGRAM: the call-history binary. CONTAINED: the program of crates/lab that holds a call with it.
# Needs root, mmdebstrap and podman.
set -euo pipefail
program=$(realpath "$1") contained=$(realpath "$2")
cd "$(dirname "$0")/../.."
work=$(mktemp -d)
image=call-history-check
podman() { command podman --storage-driver vfs --root "$work/storage" --runroot "$work/run" "$@"; }
trap 'podman rm --all --force >/dev/null 2>&1 || true; rm -rf "$work"' EXIT

mmdebstrap --quiet --variant=minbase --include=ca-certificates bookworm "$work/base.tar"
podman import --quiet "$work/base.tar" debian:bookworm-slim >/dev/null

# The build stage is replaced by what it would have made; the final stage is taken as it is.
mkdir "$work/context"
cp "$program" "$work/context/call-history"
cp -r config "$work/context/config"
{
    echo 'FROM scratch AS build'
    echo 'COPY call-history /call-history'
    echo 'COPY config /src/config'
    sed -n '/^FROM debian/,$p' Dockerfile
} >"$work/context/Dockerfile"
podman build --quiet --layers=false --pull=never --format docker --network host --isolation chroot \
    --tag "$image" "$work/context" >/dev/null
podman image inspect --format '{{.Size}}' "$image" | awk '{ printf "image: %.0f MB\n", $1 / 1e6 }'

run=(--network host --read-only --cap-drop ALL --security-opt no-new-privileges
    # Health checks want systemd to run them; the probe is run below.
    --volume "$work/data:/data" --cgroups disabled --ulimit nofile=4096:4096 --no-healthcheck)
mkdir "$work/data"
chown 10001 "$work/data"

# It is not root, its root file system takes nothing, and wrong settings end it with their status.
user=$(podman run --rm "${run[@]}" --entrypoint id "$image" -u)
[[ $user == 10001 ]] || { echo "it runs as user $user"; exit 1; }
if podman run --rm "${run[@]}" --entrypoint touch "$image" /app/file 2>/dev/null; then
    echo "the root file system can be written to"
    exit 1
fi
status=0
podman run --rm "${run[@]}" "$image" config --check >/dev/null 2>&1 || status=$?
[[ $status == 78 ]] || { echo "wrong settings end it with $status"; exit 1; }
podman image inspect --format '{{.HealthCheck.Test}}' "$image" | grep -q 'call-history probe' ||
    podman image inspect --format '{{.Config.Healthcheck.Test}}' "$image" | grep -q 'call-history probe'

settings=()
for name in LIVEKIT_URL LIVEKIT_API_KEY LIVEKIT_API_SECRET JWT_SECRET CALL_HISTORY_ENDPOINT \
    CALL_HISTORY_AGENT_NAME CALL_HISTORY_HTTP_ADDR; do
    settings+=(--env "$name")
done
# `podman run` passes signals on to the worker.
"$contained" podman --storage-driver vfs --root "$work/storage" --runroot "$work/run" \
    run --rm "${run[@]}" "${settings[@]}" "$image"
[[ -z $(find "$work/data/pending" -name '*.json') ]] || { echo "a record was left"; exit 1; }
