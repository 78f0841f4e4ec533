#!/bin/sh
# The other commands of mistral-runner.
. "$(dirname "$0")/tap.inc"

passes "--version" "$cli" --version
says "it has a number" "mistral-runner 0."
passes "--help" "$cli" --help
for command in run chat complete embed tokenize logits render inspect quantize top bench; do
    passes "$command --help" "$cli" $command --help
    says "it tells the usage" "usage: mistral-runner $command"
    refuses "$command with an unknown option" 2 "" "$cli" $command --no-such-option
done
refuses "no command" 2 "usage:" "$cli"
refuses "a command that is misspelt" 2 "do you mean \"inspect\"?" "$cli" insepct
refuses "an unknown command" 2 "there is no command \"sing\"" "$cli" sing

# complete
passes "complete" "$cli" complete -m "$model" -p "Once upon a time" -n 20 --temp 0
mv out greedy.txt
passes "complete with one thread" "$cli" complete -m "$model" -p "Once upon a time" -n 20 --temp 0 -t 1
same "threads change nothing" out greedy.txt
passes "complete by the built-in model" "$cli" complete -p "Once upon a time" -n 20 --temp 0
same "it is the same model" out greedy.txt
passes "complete with a seed" "$cli" complete -m "$model" -p "Once upon a time" -n 30 --temp 1.5 --seed 11
mv out seed.txt
passes "complete with it again" "$cli" complete -m "$model" -p "Once upon a time" -n 30 --temp 1.5 --seed 11
same "a seed gives the same text" out seed.txt
passes "complete with guesses" "$cli" complete -m "$model" -p "Once upon a time" -n 30 --temp 1.5 --seed 11 --draft 8
same "they change nothing" out seed.txt
refuses "complete with too many guesses" 2 "--draft needs a whole number from 0 to 15" "$cli" complete -m "$model" -p x --draft 16
refuses "complete without text" 2 "--prompt or --file" "$cli" complete -m "$model"
refuses "complete with a wrong number" 2 "-n needs a whole number" "$cli" complete -m "$model" -p x -n 3x
refuses "complete with a negative temperature" 1 "temperature" "$cli" complete -m "$model" -p x --temp -2
refuses "complete with a missing model" 1 "nowhere.gguf" "$cli" complete -m nowhere.gguf -p x

# embed
passes "embed" "$cli" embed -m "$model" --text "Hello there" --text "A dog"
[ "$(wc -l <out)" -eq 2 ] && [ "$(grep -c '^\[.*\]$' out)" -eq 2 ]
result "one vector a line" $?
head -n 1 out >first.json
printf 'Hello there' >text
rc=0
"$cli" embed -m "$model" -t 1 <text >out2 2>err || rc=$?
result "embed standard input" $rc
same "it gives the same vector" out2 first.json
passes "embed with another pooling" "$cli" embed -m "$model" --pooling mean --no-normalize --text "Hello there"
! cmp -s out first.json
result "it gives another vector" $?
bert=$repo/tests/conformance/embedding/bert.gguf
passes "tokenize by an encoder" "$cli" tokenize -m "$bert" --text "Hello dogs"
[ "$(cat out)" = "2 4 7 14 3" ]
result "it puts the text between its marks" $?
passes "embed by an encoder" "$cli" embed -m "$bert" --text "Hello dogs"
mv out dogs.json
passes "embed by it with the pooling that its file names" "$cli" embed -m "$bert" --text "Hello dogs" --pooling mean
same "it is the same vector" out dogs.json
refuses "complete by an encoder" 1 "does not write" "$cli" complete -m "$bert" -p "Hello dogs"
refuses "embed with a pooling that is not there" 2 "mean, cls or last" "$cli" embed -m "$model" --pooling max --text x

# tokenize and logits
passes "tokenize" "$cli" tokenize -m "$model" --no-bos --text "Hello there"
ids=$(tr ' ' ',' <out)
[ -n "$ids" ]
result "it prints ids" $?
printf 'Hello there' >text
rc=0
"$cli" tokenize -m "$model" --no-bos <text >out2 2>err || rc=$?
result "tokenize standard input" $rc
same "it gives the same ids" out out2
passes "logits" "$cli" logits -m "$model" --tokens "$ids"
mv out last.json
passes "logits --all" "$cli" logits -m "$model" --tokens "$ids" --all
[ "$(wc -l <out)" -eq "$(echo "$ids" | tr ',' '\n' | wc -l)" ]
result "one line for each position" $?
tail -n 1 out | sed 's/^\[*/[[/' >tail.json
same "the last row is that of logits" tail.json last.json
refuses "logits of a token that is not there" 1 "99999999" "$cli" logits -m "$model" --tokens 1,99999999
refuses "logits of no list" 1 "--tokens" "$cli" logits -m "$model" --tokens 1,,2

fixtures=${MR_FIXTURES:-$repo/../shared/fixtures}
for name in llama-spm gpt-2 phi-3; do
    vocab=$fixtures/vocab/ggml-vocab-$name.gguf
    if [ ! -e "$vocab" ]; then
        n_tests=$((n_tests + 1))
        echo "ok $n_tests - tokenize by $name # SKIP no fixtures"
        continue
    fi
    printf 'Hello' >text
    passes "tokenize by $name, a vocabulary without tensors" "$cli" tokenize -m "$vocab" --no-special --no-bos --text "Hello world"
    grep -qE '^ *[0-9]+( [0-9]+)*$' out
    result "it prints ids on one line" $?
done

# render
cat >messages.json <<'JSON'
[{"role": "system", "content": "Be kind."}, {"role": "user", "content": "Hello"}]
JSON
passes "render" "$cli" render -m "$model" --messages messages.json
printf '<|im_start|>system\nBe kind.<|im_end|>\n<|im_start|>user\nHello<|im_end|>\n<|im_start|>assistant\n' >expected.txt
same "it is the template's text" out expected.txt
passes "render without the assistant's start" "$cli" render -m "$model" --messages messages.json --no-generation-prompt
printf '<|im_start|>system\nBe kind.<|im_end|>\n<|im_start|>user\nHello<|im_end|>\n' >expected.txt
same "it ends with the messages" out expected.txt
printf '{{ bos_token }}{%% for m in messages %%}[{{ m.role }}:{{ m.content }}]{%% endfor %%}{{ eos_token }}{{ extra }}' >t.jinja
echo '{"extra": 7}' >vars.json
passes "render a file" "$cli" render --chat-template t.jinja --bos-token "<s>" --eos-token "</s>" --messages messages.json --vars vars.json
printf '<s>[system:Be kind.][user:Hello]</s>7' >expected.txt
same "it has its variables" out expected.txt
printf '{%% if %%}' >bad.jinja
refuses "render a broken template" 1 "line 1" "$cli" render --chat-template bad.jinja --messages messages.json

# bench
passes "bench" "$cli" bench -m "$model" -p 32,64 -n 8 -r 1 -t 1
says "it prints a table" "pp64 |"
says "and a chart" "tg8                  ████"

# chat
printf '/help\nHello\n/stats\n/system Be brief.\n/system\n/nonsense\n/exit\nnever reached\n' >talk
rc=0
"$cli" chat --temp 0 <talk >out 2>err || rc=$?
result "chat" $rc
says "it lists its commands" "/stats"
says "it tells figures" "1 answer: "
says "it takes instructions" "Be brief."
grep -q "no command /nonsense" err
result "it names an unknown command" $?
printf '/tools\n' >talk
printf '[{"type":"function","function":{"name":"add","description":"Adds numbers","parameters":{}}}]' >tools.json
rc=0
"$cli" chat --tools tools.json <talk >out 2>err || rc=$?
result "chat with tools" $rc
says "it lists them" "Adds numbers"
printf '{' >broken.json
refuses "chat with broken tools" 1 "broken.json" "$cli" chat --tools broken.json

# inspect
passes "inspect" "$cli" inspect "$model"
says "it lists metadata" "general.architecture"
says "it lists tensors" "token_embd.weight"
passes "inspect --fit" "$cli" inspect --fit --concurrent 2 "$model"
says "it lists the mixes" "Q4_K_M"
passes "inspect --fit of a folder" "$cli" inspect --fit --ctx 100000 "$repo/tests/conformance/hf/llama"
says "it takes the context" " 100000"
passes "inspect a folder" "$cli" inspect "$repo/tests/conformance/hf/llama"
refuses "inspect --fit of no context" 2 "--ctx" "$cli" inspect --fit --ctx 0 "$model"
refuses "inspect a missing file" 1 "nowhere.gguf" "$cli" inspect nowhere.gguf
refuses "inspect nothing" 2 "missing" "$cli" inspect

# quantize
passes "quantize" "$cli" quantize --again "$model" small.gguf Q4_K_M
says "it tells the sizes" "MiB of tensors from"
passes "complete with what was written" "$cli" complete -m small.gguf -p "Once upon a time" -n 20 --temp 0
refuses "quantize what is quantized already" 1 "Q8_0 already" "$cli" quantize "$model" never.gguf Q4_0
refuses "quantize to an unknown type" 2 "there are F32 F16" "$cli" quantize "$model" never.gguf Q9_Z
refuses "quantize without a type" 2 "IN, OUT and TYPE" "$cli" quantize "$model" never.gguf
refuses "quantize a missing file" 1 "nowhere.gguf" "$cli" quantize nowhere.gguf never.gguf Q8_0
refuses "quantize into a missing folder" 1 "no/such" "$cli" quantize "$model" no/such/never.gguf Q8_0
[ ! -e never.gguf ] && [ -z "$(ls -A | grep never)" ]
result "nothing is left of what failed" $?

# chat, from a pipe
rc=0
printf 'Hello!\nWhat is your name?\n/exit\n' | "$cli" chat -m "$model" --temp 0 -n 20 >out 2>err || rc=$?
result "chat" $rc
[ "$(grep -c . out)" -ge 2 ]
result "it answers each line" $?
finish
