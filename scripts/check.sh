#!/usr/bin/env bash
# check.sh BUILD: builds, runs every test, and ends with "N passed, N failed, N skipped".
#
# A test is a program that prints TAP (https://testanything.org): the cmocka programs, also under sanitizers and with other
# instruction sets, the end-to-end scripts through the plugin, and the Rust host where cargo is installed.
set -uo pipefail
cd "$(dirname "$0")/.."
build=${1:-build}
passed=0 failed=0 skipped=0
log=$(mktemp)
trap 'rm -f "$log"' EXIT
export CMOCKA_MESSAGE_OUTPUT=tap
export ASAN_OPTIONS=${ASAN_OPTIONS:-detect_leaks=1:allocator_may_return_null=1}
export TSAN_OPTIONS=${TSAN_OPTIONS:-suppressions=$PWD/tests/tsan.supp}
export UBSAN_OPTIONS=${UBSAN_OPTIONS:-print_stacktrace=1}

# run NAME COMMAND...: runs a TAP program and counts its lines; a program that ends badly without a "not ok" counts as one
# failure, and what a failing program printed is shown.
run() {
    local name=$1 status ok bad skip
    shift
    "$@" >"$log" 2>&1
    status=$?
    # cmocka writes a skipped test as "not ok N # SKIP", others as "ok N # SKIP".
    skip=$(grep -cE '^(not )?ok [0-9]+.*# *SKIP' "$log")
    ok=$(grep -E '^ok ' "$log" | grep -cvE '# *SKIP')
    bad=$(grep -E '^not ok ' "$log" | grep -cvE '# *SKIP')
    if [ $status -ne 0 ] && [ "$bad" -eq 0 ]; then bad=1; fi
    if [ $status -eq 0 ] && [ $((ok + bad + skip)) -eq 0 ]; then bad=1; fi
    passed=$((passed + ok)) failed=$((failed + bad)) skipped=$((skipped + skip))
    printf '%-46s %4d passed %s%s\n' "$name" "$ok" "$([ "$bad" -gt 0 ] && echo "$bad FAILED ")" "$([ "$skip" -gt 0 ] && echo "$skip skipped")"
    if [ "$bad" -gt 0 ]; then tail -n 60 "$log"; fi
}

skip() {
    skipped=$((skipped + 1))
    printf '%-46s skipped: %s\n' "$1" "$2"
}

must_build() {
    scripts/build.sh "$@" || { echo "the build in $1 failed"; echo "$passed passed, $((failed + 1)) failed, $skipped skipped"; exit 1; }
}

must_build "$build"
for test in "$build"/tests/test_*; do
    [ -x "$test" ] && [ -f "$test" ] && run "$(basename "$test")" "$test"
done
for isa in avx2 plain; do
    run "test_logits ($isa)" env MR_ISA=$isa "$build/tests/test_logits"
done
for script in tests/e2e/*.sh; do
    [ -e "$script" ] && run "$(basename "$script")" "$script" "$build"
done

if [ -d tests/conformance/rust-host ]; then
    if command -v cargo >/dev/null; then
        run "rust host" tests/conformance/rust-host/run.sh "$build"
    else
        skip "rust host" "cargo is not installed"
    fi
fi

# The kernels of the other processor, under emulation. Elsewhere than on x86-64 there is nothing to emulate.
if command -v aarch64-linux-gnu-gcc >/dev/null && command -v qemu-aarch64 >/dev/null; then
    if scripts/cross.sh "$build-aarch64"; then
        for test in "$build-aarch64"/test_*; do
            [ -x "$test" ] && run "$(basename "$test") (aarch64, neon)" qemu-aarch64 "$test"
        done
    else
        failed=$((failed + 1))
    fi
else
    skip "kernels for aarch64" "no aarch64-linux-gnu-gcc or no qemu-aarch64; scripts/bootstrap.sh check"
fi

must_build "$build-asan" -DMR_SANITIZE=address,undefined -DCMAKE_BUILD_TYPE=RelWithDebInfo
for test in "$build-asan"/tests/test_*; do
    [ -x "$test" ] && [ -f "$test" ] && run "$(basename "$test") (asan, ubsan)" "$test"
done
for target in "$build-asan"/tests/fuzz/fuzz_*; do
    [ -x "$target" ] && [ -f "$target" ] || continue
    name=$(basename "$target")
    run "$name (short)" "$target" "tests/fuzz/corpus/${name#fuzz_}" 5000
done
must_build "$build-tsan" -DMR_SANITIZE=thread -DCMAKE_BUILD_TYPE=RelWithDebInfo
for name in test_team test_engine test_generation test_plugin test_plugin_host test_plugin_service test_service \
    test_service_registry test_rpc test_functions test_tool_loop test_tool_faults; do
    [ -x "$build-tsan/tests/$name" ] && run "$name (tsan)" "$build-tsan/tests/$name"
done

run "soak, 60 s (asan, ubsan)" env ASAN_OPTIONS="$ASAN_OPTIONS:quarantine_size_mb=16" "$build-asan/tests/soak" 60
run "soak, 60 s (tsan)" "$build-tsan/tests/soak" 60

echo
echo "$passed passed, $failed failed, $skipped skipped"
[ "$failed" -eq 0 ]
