#!/usr/bin/env bash
# fuzz.sh [TARGET...]: runs the fuzz targets (all of them by default) for FUZZ_SECONDS each (default 600) with libFuzzer, ASan
# and UBSan. New inputs are kept in build-fuzz/corpus/; a crash leaves a file build-fuzz/crash-… and ends the script.
set -euo pipefail
cd "$(dirname "$0")/.."
seconds=${FUZZ_SECONDS:-600}
CC=clang scripts/build.sh build-fuzz -DMR_FUZZ=ON -DMR_SANITIZE=address,undefined -DCMAKE_BUILD_TYPE=RelWithDebInfo \
    -DCMAKE_C_FLAGS=-fsanitize=fuzzer-no-link
targets=("$@")
if [ ${#targets[@]} -eq 0 ]; then
    for program in build-fuzz/tests/fuzz/fuzz_*; do [ -f "$program" ] && [ -x "$program" ] && targets+=("$(basename "$program")"); done
fi
for target in "${targets[@]}"; do
    name=${target#fuzz_}
    mkdir -p "build-fuzz/corpus/$name" "tests/fuzz/corpus/$name"
    echo "== $target, $seconds s"
    "build-fuzz/tests/fuzz/$target" -max_total_time="$seconds" -max_len=65536 -rss_limit_mb=4096 -timeout=20 \
        -artifact_prefix=build-fuzz/ -print_final_stats=1 "build-fuzz/corpus/$name" "tests/fuzz/corpus/$name" 2>&1 | tail -n 12
done
