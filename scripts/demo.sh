#!/bin/sh
# demo.sh BUILD: a chat job, as jobworkerp would give it, answered by the shipped model through the plugin's ABI, token by
# token.
set -eu
cd "$(dirname "$0")/.."
build=$1
echo "plugin:  $build/libplugin_runner_mistral.so"
echo "worker:  examples/demo-worker.json"
echo "job:     examples/chat.json"
echo
exec "$build/mistral-runner" run --plugin "$build/libplugin_runner_mistral.so" --worker examples/demo-worker.json \
    --job examples/chat.json --stream
