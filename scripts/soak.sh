#!/usr/bin/env bash
# soak.sh: the plugin under mixed jobs with cancels, drops, bad input and instances that come and go (tests/soak/soak.c), for
# SOAK_SECONDS (default 600) each as released, under ASan and UBSan, and under TSan.
set -euo pipefail
cd "$(dirname "$0")/.."
seconds=${SOAK_SECONDS:-600}
export ASAN_OPTIONS=${ASAN_OPTIONS:-detect_leaks=1:quarantine_size_mb=16}
export TSAN_OPTIONS=${TSAN_OPTIONS:-suppressions=$PWD/tests/tsan.supp}
scripts/build.sh build
scripts/build.sh build-asan -DMR_SANITIZE=address,undefined -DCMAKE_BUILD_TYPE=RelWithDebInfo
scripts/build.sh build-tsan -DMR_SANITIZE=thread -DCMAKE_BUILD_TYPE=RelWithDebInfo
for folder in build build-asan build-tsan; do
    echo "== $folder"
    "$folder/tests/soak" "$seconds" "${SOAK_SEED:-1}"
done
