#!/bin/sh
# run.sh BUILD: builds the Rust host, runs it over the plugin of BUILD, and prints its counts as TAP.
set -u
here=$(dirname "$0")
build=$(cd "$1" && pwd)
cargo build --quiet --release --locked --manifest-path "$here/Cargo.toml" --target-dir "$build/rust-host" || exit 1
out=$("$build/rust-host/release/rust-host" "$build/libplugin_runner_mistral.so" 2>&1)
status=$?
echo "$out"
counts=$(echo "$out" | grep -E '^[0-9]+ passed, [0-9]+ failed' | tail -n 1)
passed=$(echo "$counts" | cut -d' ' -f1)
failed=$(echo "$counts" | cut -d' ' -f3)
n=0
while [ "$n" -lt "${passed:-0}" ]; do n=$((n + 1)); echo "ok $n - rust host"; done
while [ "$n" -lt "$((${passed:-0} + ${failed:-1}))" ]; do n=$((n + 1)); echo "not ok $n - rust host"; done
exit $status
