#!/bin/sh
# run.sh BUILD: the benchmark of this machine, beside a peer where one is given:
#
#   make bench                                   ours alone
#   PEER=/path/to/llama-bench make bench         beside llama.cpp's or ik_llama.cpp's llama-bench
#   PEER_BATCHED=/path/to/llama-batched-bench    the peer for concurrent requests
#   TYPES="Q4_K_M Q8_0" TESTS="pp512 tg64" RUNS=5 THREADS=2 choose less or more
set -eu
cd "$(dirname "$0")/.."
command -v python3 >/dev/null || scripts/bootstrap.sh bench
exec python3 bench/run.py "$1"
