#!/bin/sh
# cuda_check.sh FOLDER: on a machine with an NVIDIA GPU, its driver, nvcc, gcc and g++ (which nvcc calls), CMake and Ninja,
# and nothing else (with Jansson, encoders are tested, too): builds the floors up to the engine with the CUDA kernels, runs
# the kernels' tests on the device, and then times them (cuda_bench.c: median of events, beside the ceilings that were
# measured in the same run). Ends with "N passed, N failed".
set -eu
cd "$(dirname "$0")/.."
folder=${1:-build-cuda}
cmake -S tests/cuda/device -B "$folder" -G Ninja >"$folder.log" 2>&1 || { cat "$folder.log" >&2; exit 1; }
echo "# compiling the kernels takes some minutes" >&2
ninja -C "$folder" >"$folder.log" 2>&1 || { cat "$folder.log" >&2; exit 1; }
rm -f "$folder.log"
passed=0 failed=0
for test in "$folder"/test_*; do
    [ -x "$test" ] && [ -f "$test" ] || continue
    echo "# $(basename "$test")"
    output=$("$test" 2>&1) && status=0 || status=$?
    echo "$output"
    passed=$((passed + $(echo "$output" | grep -E '^ok ' | grep -cvE '# *SKIP' || true)))
    if [ $status -ne 0 ]; then failed=$((failed + 1)); fi
done
if [ $passed -eq 0 ]; then
    echo "nothing ran: is there a GPU, and its driver?" >&2
    failed=$((failed + 1))
fi
[ $failed -eq 0 ] && { "$folder/cuda_bench" || failed=1; }
echo "$passed passed, $failed failed"
[ $failed -eq 0 ]
