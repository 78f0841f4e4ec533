#!/bin/sh
# Bad input gets a sentence and status 1, never a crash.
. "$(dirname "$0")/tap.inc"
export RUST_LOG=error

hello='{"messages": [{"role": "USER", "content": {"text": "Hello"}}]}'
small="{\"gguf_model\": {\"model_name_or_path\": \"$model\"}, \"context_size\": 128}"

# worker SETTINGS and job METHOD ARGS write the files; a job for the built-in files otherwise.
worker() { echo "{\"name\": \"w\", \"runner_settings\": $1}" >worker.json; }
job() { echo "{\"using\": \"$1\", \"args\": $2}" >job.json; }

# bad_settings NAME SETTINGS TEXT, bad_job NAME METHOD ARGS TEXT: refused by the plugin or before it.
bad_settings() {
    worker "$2"
    job chat "$hello"
    refuses "$1" 1 "$3" "$cli" run --worker worker.json --job job.json
}
bad_job() {
    worker "$small"
    job "$2" "$3"
    refuses "$1" 1 "$4" "$cli" run --worker worker.json --job job.json
}

# Files.
bad_settings "a missing file" '{"gguf_model": {"model_name_or_path": "/nowhere/m.gguf"}}' "/nowhere/m.gguf"
bad_settings "a missing file of a folder" '{"gguf_model": {"model_name_or_path": ".", "gguf_files": ["m.gguf"]}}' "m.gguf"
bad_settings "two models" "{\"gguf_model\": {\"model_name_or_path\": \"$model\"}, \"model_settings\": {\"gguf_model\": {\"model_name_or_path\": \"$model\"}}}" "twice"
bad_settings "no name of a model" '{"gguf_model": {}}' "names no model"
bad_settings "a model of another kind" '{"text_model": {"model_name_or_path": "owner/name"}}' "HF_HUB_OFFLINE is set"
bad_settings "a folder without models" '{"gguf_model": {"model_name_or_path": "/etc"}}' "no .gguf file"
: >empty.gguf
bad_settings "an empty file" '{"gguf_model": {"model_name_or_path": "empty.gguf"}}' "empty.gguf"
echo "this is no model, but it is long enough to be looked at" >text.gguf
bad_settings "a file that is no GGUF" '{"gguf_model": {"model_name_or_path": "text.gguf"}}' "text.gguf"
size=$(wc -c <"$model")
for part in 1 10 50 90 99; do
    head -c $((size * part / 100)) "$model" >cut.gguf
    bad_settings "a model cut at $part %" '{"gguf_model": {"model_name_or_path": "cut.gguf"}}' "cut.gguf"
done
# Bytes overwritten in the header: some sentence or a load, never a signal.
at=8
while [ $at -lt 400 ]; do
    cp "$model" broken.gguf
    printf '\377\376\375' | dd of=broken.gguf bs=1 seek=$at conv=notrunc 2>/dev/null
    worker '{"gguf_model": {"model_name_or_path": "broken.gguf"}}'
    job chat "{\"messages\": [{\"role\": \"USER\", \"content\": {\"text\": \"Hello\"}}], \"options\": {\"max_tokens\": 2}}"
    run "$cli" run --worker worker.json --job job.json
    [ $rc -eq 0 ] || { [ $rc -eq 1 ] && [ -s err ]; }
    result "a header broken at byte $at (status $rc)" $?
    at=$((at + 13))
done
sed 's/llama/qlama/g' "$model" >arch.gguf
bad_settings "an unknown architecture" '{"gguf_model": {"model_name_or_path": "arch.gguf"}}' "qlama"

# Settings.
bad_settings "an unknown field" '{"gguf_modell": {}}' "gguf_modell: LocalRunnerSettings has no such field"
bad_settings "a wrong type" '{"threads": "many"}' "threads"
bad_settings "an unknown KV type" '{"kv_cache_type": "q1"}' "kv_cache_type"
bad_settings "an unknown device" '{"device": "abacus"}' "device"
bad_settings "a chat template of another kind" "{\"gguf_model\": {\"model_name_or_path\": \"$model\", \"chat_template\": \"x.txt\"}}" "x.txt"

# Jobs.
bad_job "an unknown method" sing "$hello" "no method \"sing\""
bad_job "no messages" chat '{}' "no messages"
bad_job "an image" chat '{"messages": [{"role": "USER", "content": {"image": {"content_type": "image/png", "source": {"url": "x"}}}}]}' "text only"
bad_job "a message without content" chat '{"messages": [{"role": "USER"}]}' "messages[0] has no content"
bad_job "a message without role" chat '{"messages": [{"content": {"text": "x"}}]}' "messages[0] has no role"
bad_job "an unknown role" chat '{"messages": [{"role": "ROBOT", "content": {"text": "x"}}]}' "ROBOT"
bad_job "an unknown field" chat '{"mesages": []}' "mesages"
bad_job "negative max_tokens" chat '{"messages": [{"role": "USER", "content": {"text": "x"}}], "options": {"max_tokens": -5}}' "max_tokens is -5"
bad_job "a negative temperature" chat '{"messages": [{"role": "USER", "content": {"text": "x"}}], "options": {"temperature": -1}}' "temperature"
bad_job "a temperature that is no number" completion '{"prompt": "x", "options": {"temperature": "NaN"}}' "temperature"
bad_job "an infinite top_p" completion '{"prompt": "x", "options": {"top_p": "Infinity"}}' "top_p"
bad_job "a repeat_penalty of zero" completion '{"prompt": "x", "options": {"repeat_penalty": 0}}' "repeat_penalty"
bad_job "a repeat_last_n below -1" completion '{"prompt": "x", "options": {"repeat_last_n": -7}}' "repeat_last_n"
bad_job "a json_schema" chat '{"messages": [{"role": "USER", "content": {"text": "x"}}], "json_schema": "{"}' "json_schema"
bad_job "a context of another model" completion '{"prompt": "x", "context": {"ollama_context": {"data": [123456789]}}}' "123456789"
long=$(i=0; while [ $i -lt 400 ]; do printf 'house dog '; i=$((i + 1)); done)
bad_job "a prompt longer than the context" completion "{\"prompt\": \"$long\"}" "128"
bad_job "a stray result of a tool" chat '{"messages": [{"role": "TOOL", "content": {"tool_results": {"results": [{"call_id": "1", "content": "x"}]}}}]}' "no fn_name"

# Files of the program itself.
worker "$small"
job chat "$hello"
refuses "a missing job file" 1 "nowhere.json" "$cli" run --worker worker.json --job nowhere.json
echo '{"args": {' >broken.json
refuses "a job that is no JSON" 1 "broken.json is no JSON: line 2" "$cli" run --worker worker.json --job broken.json
refuses "a job without --job" 2 "--job is missing" "$cli" run --worker worker.json
echo '{"worker_name": "other", "args": {}}' >other.json
refuses "a job of another worker" 1 "the worker \"other\"" "$cli" run --worker worker.json --job other.json
refuses "a plugin that is not there" 1 "nowhere.so" "$cli" run --plugin ./nowhere.so --worker worker.json --job job.json
refuses "a plugin that is none" 1 "text.gguf" "$cli" run --plugin ./text.gguf --worker worker.json --job job.json
echo '{"name": "w", "runner_name": "OtherRunner", "runner_settings": {}}' >runner.json
refuses "a worker of another runner" 1 "OtherRunner" "$cli" run --worker runner.json --job job.json
finish
