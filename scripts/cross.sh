#!/bin/sh
# cross.sh FOLDER: builds the kernels and their tests for aarch64 into FOLDER; run them with qemu-aarch64.
set -eu
cd "$(dirname "$0")/.."
cmake -S tests/cross -B "$1" -G Ninja -DCMAKE_SYSTEM_NAME=Linux -DCMAKE_SYSTEM_PROCESSOR=aarch64 \
    -DCMAKE_C_COMPILER=aarch64-linux-gnu-gcc >"$1.log" 2>&1 || { cat "$1.log" >&2; exit 1; }
rm -f "$1.log"
ninja -C "$1" --quiet
