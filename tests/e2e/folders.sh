#!/bin/sh
# Hugging Face folders: golden models with a small tokenizer and a template beside them.
. "$(dirname "$0")/tap.inc"

# with_tokenizer NAME: the golden folder NAME, here, with a vocabulary of 64 words.
with_tokenizer() {
    mkdir "$1"
    cp "$repo/tests/conformance/hf/$1"/config.json "$repo/tests/conformance/hf/$1"/model.safetensors "$1"
    {
        printf '{"version": "1.0", "added_tokens": ['
        printf '{"id": 0, "content": "<pad>", "special": true}, {"id": 1, "content": "<bos>", "special": true}'
        printf '], "pre_tokenizer": {"type": "WhitespaceSplit"}, "model": {"type": "WordLevel", "unk_token": "w2", "vocab": {'
        printf '"<pad>": 0, "<bos>": 1'
        for i in $(seq 2 63); do printf ', "w%d": %d' "$i" "$i"; done
        printf '}}}\n'
    } >"$1/tokenizer.json"
    cat >"$1/tokenizer_config.json" <<'EOF'
{"bos_token": "<bos>", "eos_token": "<pad>", "pad_token": "<pad>",
 "chat_template": "{{ bos_token }}{% for m in messages %} w3 {{ m.content }}{% endfor %} w4"}
EOF
}

for folder in gemma3n gemma3n-nested gemma4-e2b gemma4-26b-a4b; do
    with_tokenizer $folder
    passes "complete by $folder" "$cli" complete -m $folder -p "w5 w6 w7" -n 8 --temp 0
    [ "$(wc -w <out)" -ge 1 ] && ! grep -qvE '^( ?w[0-9]+)+ *$' out
    result "it writes words of its vocabulary" $?
    mv out alone.txt
    passes "complete by $folder with one thread" "$cli" complete -m $folder -p "w5 w6 w7" -n 8 --temp 0 -t 1
    same "threads change nothing" out alone.txt
    rc=0
    echo "w8 w9" | timeout 120 "$cli" chat -m $folder -n 6 --temp 0 >out 2>err || rc=$?
    result "chat with $folder" $rc
    grep -qE '(w[0-9]+ ?)+' out
    result "it answers" $?
    echo '{"using": "chat",
        "args": {"messages": [{"role": "USER", "content": {"text": "w8 w9"}}], "options": {"max_tokens": 6, "temperature": 0}}}' >job.json
    settings="{\"text_model\": {\"model_name_or_path\": \"$scratch/$folder\", \"isq_type\": \"Q4K\"}}"
    echo "{\"runner_settings\": {\"model_settings\": $settings}}" >worker.json
    passes "a job by $folder, quantized at load" "$cli" run --worker worker.json --job job.json
    says "by this model" '"model": "gemma'
done
sed 's/"hidden_size": [0-9]*/"hidden_size": 31/' gemma3n/config.json >changed
mv changed gemma3n/config.json
refuses "a folder whose tensors are of other sizes" 1 "rows of 31 are asked for" "$cli" complete -m gemma3n -p w5
finish
