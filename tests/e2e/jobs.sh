#!/bin/sh
# Jobs through the plugin's ABI, as the host runs them.
. "$(dirname "$0")/tap.inc"
export RUST_LOG=error
cp -r "$repo/examples" .
ln -s "$repo/models" models

passes "the example of a chat job" "$cli" run --worker examples/worker.json --job examples/chat.json
says "it has text" '"text": "'
says "it is done" '"done": true'
says "it has its usage" '"completion_tokens": '
passes "the example of an embedding job" "$cli" run --worker examples/worker.json --job examples/embedding.json
says "it has vectors" '"values": '
says "it has its usage" '"prompt_tokens": '
passes "the example of a completion job" "$cli" run --worker examples/worker.json --job examples/completion.json
says "it has a context" '"ollama": {'
passes "a job of the built-in model" "$cli" run --worker examples/demo-worker.json --job examples/chat.json
says "it has text" '"text": "'
passes "the plugin named by its path" "$cli" run --plugin "$plugin" --worker examples/worker.json --job examples/chat.json --stream
[ -s out ]
result "its text streams" $?

# What is written in camelCase, with numbers for enum values, is the same job.
cat >snake.json <<'JSON'
{"args": {"messages": [{"role": "SYSTEM", "content": {"text": "Be brief."}}, {"role": "USER", "content": {"text": "Hello!"}}],
  "options": {"max_tokens": 30, "temperature": 0.8, "seed": 42, "repeat_penalty": 1.1}}, "using": "chat"}
JSON
cat >camel.json <<'JSON'
{"args": {"messages": [{"role": 1, "content": {"text": "Be brief."}}, {"role": 2, "content": {"text": "Hello!"}}],
  "options": {"maxTokens": "30", "temperature": 0.8, "seed": 42, "repeatPenalty": 1.1}}}
JSON
passes "a job in snake_case" "$cli" run --worker examples/worker.json --job snake.json --stream
mv out snake.txt
passes "the same in camelCase, method left out" "$cli" run --worker examples/worker.json --job camel.json --stream
mv out camel.txt
same "both give the same text" snake.txt camel.txt
passes "the job from standard input" sh -c "\"$cli\" run --worker examples/worker.json --job - --stream <snake.json"
mv out stdin.txt
same "it gives the same text" snake.txt stdin.txt

# The two shapes of the settings.
cat >flat.json <<'JSON'
{"name": "w", "runner_settings": {"gguf_model": {"model_name_or_path": "models/mistral-runner-tiny.gguf"}}}
JSON
passes "settings without model_settings around them" "$cli" run --worker flat.json --job snake.json --stream
mv out flat.txt
same "they give the same text" snake.txt flat.txt

# Chunks of a stream: text first, then one with done and usage.
passes "a stream as JSON lines" "$cli" run --worker flat.json --job snake.json --stream --json
[ "$(grep -c '"done":false' out)" -gt 0 ] && [ "$(grep -c '"done":true' out)" -eq 1 ]
result "one chunk is the last" $?
tail -n 1 out | grep -q '"usage":{' && ! tail -n 1 out | grep -q '"text"'
result "it has the usage and no text" $?
cat >full.json <<'JSON'
{"runner_settings": {"gguf_model": {"model_name_or_path": "models/mistral-runner-tiny.gguf"}, "stream_final_full_text": true}}
JSON
passes "a stream that repeats the whole at its end" "$cli" run --worker full.json --job snake.json --stream --json
tail -n 1 out | grep -q '"text":"'
result "the last chunk has the text" $?

# Guesses change no text: greedy, with a temperature, and constrained.
cat >echo.json <<'JSON'
{"args": {"messages": [{"role": "USER", "content": {"text": "Please repeat this: the old house 17 river green lamp Maria basket seven stones window Felix 42 garden paper moon bridge silver"}}],
  "options": {"max_tokens": 120, "temperature": 0}}, "using": "chat"}
JSON
sed 's/"temperature": 0/"temperature": 0.9, "seed": 5, "repeat_penalty": 1.1/' echo.json >warm.json
sed 's/"options"/"json_schema": "{\\"type\\": \\"array\\", \\"items\\": {\\"type\\": \\"string\\"}}", "options"/' echo.json >schema.json
for job in echo warm schema; do
    passes "a job without guesses ($job)" "$cli" run --worker flat.json --job $job.json --stream
    mv out without.txt
    passes "the same with guesses ($job)" env MISTRAL_DRAFT_TOKENS=8 MISTRAL_METRICS_FILE="$scratch/$job.prom" "$cli" run --worker flat.json --job $job.json --stream
    mv out with.txt
    [ -s with.txt ] && cmp -s with.txt without.txt
    result "the text is the same ($job)" $?
done
[ "$(sed -n 's/^mistral_runner_tokens_draft_accepted_total.* //p' echo.prom)" -gt 0 ]
result "guesses were right" $?

# The context of one completion continued by the next.
cat >first.json <<'JSON'
{"args": {"prompt": "The little dog", "options": {"max_tokens": 8, "temperature": 0}}, "using": "completion"}
JSON
passes "a completion" "$cli" run --worker flat.json --job first.json
ids=$(sed -n '/"data": \[/,/\]/p' out | tr -d '\n ' | sed 's/.*\[\(.*\)\].*/\1/')
echo "{\"args\": {\"context\": {\"ollama_context\": {\"data\": [$ids]}}, \"options\": {\"max_tokens\": 8}}, \"using\": \"completion\"}" >second.json
passes "its continuation" "$cli" run --worker flat.json --job second.json
says "it goes on from there" "\"prompt_tokens\": $(echo "$ids" | tr ',' '\n' | wc -l)"

# Ctrl-C while the text streams.
cat >long.json <<'JSON'
{"args": {"prompt": "Once upon a time", "options": {"temperature": 1}}, "using": "completion"}
JSON
"$cli" run --worker flat.json --job long.json --stream >out 2>err &
pid=$!
i=0
while [ ! -s out ] && [ $i -lt 200 ]; do
    sleep 0.05
    i=$((i + 1))
done
kill -INT $pid 2>/dev/null
wait $pid
rc=$?
# A short text may have ended by itself before the signal came.
[ $rc -eq 130 ] || [ $rc -eq 0 ]
result "Ctrl-C ends a job (status $rc)" $?
finish
