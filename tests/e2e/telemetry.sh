#!/bin/sh
# Traces and metrics through the plugin, as a collector in another process receives them.
. "$(dirname "$0")/tap.inc"
python=
for candidate in python3 /usr/bin/python3; do
    [ -z "$python" ] && "$candidate" -c 'import grpc' 2>/dev/null && python=$candidate
done
if [ -z "$python" ]; then
    echo "ok 1 - telemetry # SKIP python3 has no grpc"
    n_tests=1
    finish
fi

# start_collector LOG OPTIONS...: sets $collector and $port.
start_collector() {
    log=$1
    shift
    : >"$log"
    "$python" "$repo/tests/e2e/otlp_collector.py" --log "$log" "$@" >listening &
    collector=$!
    for _ in $(seq 100); do
        port=$(sed -n 's/^listening //p' listening)
        [ -n "$port" ] && break
        sleep 0.1
    done
}
stop_collector() { kill "$collector"; wait "$collector" 2>/dev/null; }

# holds NAME FILE CONDITION: a Python expression over the decoded lines: spans (by name) and metrics (by name).
holds() {
    "$python" - "$2" "$3" <<'P' 2>err
import json, sys
lines = [json.loads(line) for line in open(sys.argv[1])]
spans = {l["span"]: l for l in lines if "span" in l}
metrics = {l["metric"]: l for l in lines if "metric" in l}
if not eval(sys.argv[2]):
    sys.exit(f"false: {sys.argv[2]}\n" + "\n".join(map(json.dumps, lines))[:4000])
P
    result "$1" $?
}

cat >worker.json <<'J'
{"name": "w", "runner_name": "MistralLocalLLM", "runner_settings": {}}
J
cat >chat.json <<'J'
{"args": {"messages": [{"role": "USER", "content": {"text": "Hello!"}}], "options": {"temperature": 0, "max_tokens": 12}},
 "metadata": {"traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", "tracestate": "vendor=x",
              "session_id": "s-1", "user_id": "u-1", "other": "kept"}}
J
sed 's/31-01/31-00/' chat.json >unsampled.json
cat >completion.json <<'J'
{"args": {"prompt": "Once upon", "options": {"temperature": 0, "max_tokens": 5}}, "using": "completion"}
J
cat >bad.json <<'J'
{"args": {"messages": [{"role": "USER", "content": {"text": "x"}}], "options": {"max_tokens": -1}}}
J

start_collector spans.log
OTLP_ADDR=http://127.0.0.1:$port
export OTLP_ADDR
passes "a chat that is traced" "$cli" run --plugin "$plugin" --worker worker.json --job chat.json
holds "its span is a child of the caller's" spans.log \
    'spans["mistralrs.chat"]["trace"] == "0af7651916cd43dd8448eb211c80319c" and spans["mistralrs.chat"]["parent"] == "b7ad6b7169203331" and spans["mistralrs.chat"]["state"] == "vendor=x"'
holds "it says what was asked of whom" spans.log \
    '(lambda a: a["gen_ai.system"] == "mistralrs" and a["gen_ai.operation.name"] == "chat" and a["gen_ai.request.model"] and a["session_id"] == "s-1" and a["user_id"] == "u-1" and "Hello!" in a["input"])(spans["mistralrs.chat"]["attributes"])'
holds "and what came of it" spans.log \
    '(lambda a: a["output"] and a["gen_ai.usage.input_tokens"] > 0 and 0 < a["gen_ai.usage.output_tokens"] <= 12)(spans["mistralrs.chat"]["attributes"]) and spans["mistralrs.chat"]["ns"] > 0 and spans["mistralrs.chat"]["status"] == 0'
holds "the resource names the program" spans.log 'spans["mistralrs.chat"]["resource"]["service.name"] == "mistral-runner"'
holds "metrics came with it" spans.log \
    'metrics["mistral_runner.tokens.generated"]["points"][0]["value"] > 0 and metrics["mistral_runner.time_to_first_token"]["points"][0]["count"] == 1 and metrics["mistral_runner.jobs"]["kind"] == "sum"'
passes "a completion" "$cli" run --plugin "$plugin" --worker worker.json --job completion.json
holds "its span begins a trace" spans.log \
    'spans["mistralrs.completion"]["parent"] == "" and len(spans["mistralrs.completion"]["trace"]) == 32 and spans["mistralrs.completion"]["attributes"]["input"] == "Once upon"'
refuses "a job that fails" 1 "max_tokens" "$cli" run --plugin "$plugin" --worker worker.json --job bad.json
holds "its span tells why" spans.log 'any(l.get("status") == 2 and "max_tokens" in l["message"] for l in lines)'
: >spans.log
passes "a chat whose caller does not sample" "$cli" run --plugin "$plugin" --worker worker.json --job unsampled.json
holds "has no span" spans.log 'not spans'
stop_collector

passes "no collector costs nothing but a warning" env RUST_LOG=warn "$cli" run --plugin "$plugin" --worker worker.json --job chat.json
grep -q "not exported" err
result "which says so" $?
start_collector again.log --refuse 1 --port "$port"
passes "a collector that refuses at first" "$cli" run --plugin "$plugin" --worker worker.json --job chat.json
stop_collector
start_collector slow.log --slow 30 --port "$port"
passes "a slow collector does not hold the end up" timeout 20 "$cli" run --plugin "$plugin" --worker worker.json --job chat.json
stop_collector
OTLP_ADDR="not a place:at all" && export OTLP_ADDR
passes "an address that is none" "$cli" run --plugin "$plugin" --worker worker.json --job chat.json
unset OTLP_ADDR

passes "metrics as a file" env MISTRAL_METRICS_FILE="$scratch/metrics.prom" "$cli" run --plugin "$plugin" --worker worker.json --job chat.json
grep -q '^mistral_runner_jobs_total{method="chat",status="ok"} 1$' metrics.prom
result "it counts the job" $?
grep -q '^mistral_runner_time_to_first_token_seconds_bucket{le="+Inf"} 1$' metrics.prom
result "it has the histogram" $?
passes "top" "$cli" top --once metrics.prom
says "it counts the job" "1 done, 0 failed"
refuses "top without a file" 1 "nowhere.prom" "$cli" top nowhere.prom
finish
