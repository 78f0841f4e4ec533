#!/bin/sh
# run.sh BUILD: the benchmark of this machine, beside a peer where one is given:
#
#   make bench                                   ours alone
#   PEER=/path/to/llama-bench make bench         beside llama.cpp's or ik_llama.cpp's llama-bench
#   PEER_BATCHED=/path/to/llama-batched-bench    the peer for concurrent requests (default: beside PEER)
#   TYPES="Q4_K_M Q8_0" TESTS="pp512 tg64" MORE="x8 pp3500" RUNS=5 THREADS=2   choose less or more; MORE is of the
#                                                first type only
#   SWEEP="pp1024 x4"                            more points of the plot, one run each, of the first type
#   MODELS=FOLDER RESULTS=FOLDER BUDGET=840      models are kept there; records go there; seconds in all
set -eu
cd "$(dirname "$0")/.."
command -v python3 >/dev/null || scripts/bootstrap.sh bench
exec python3 bench/run.py "$1"
