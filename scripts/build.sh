#!/bin/sh
# build.sh FOLDER [CMAKE OPTIONS...]: configures and builds into FOLDER.
set -eu
cd "$(dirname "$0")/.."
folder=$1
shift
cmake -S . -B "$folder" -G Ninja "$@" >"$folder.log" 2>&1 || { cat "$folder.log" >&2; exit 1; }
rm -f "$folder.log"
ninja -C "$folder" --quiet
