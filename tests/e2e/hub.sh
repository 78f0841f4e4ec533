#!/bin/sh
# Models from the hub: a server on loopback in many moods (hub_server.py), the program and the plugin against it.
. "$(dirname "$0")/tap.inc"
if ! python3 -c 'import http.server, ssl' 2>/dev/null; then
    echo "ok 1 - the hub # SKIP python3 is not installed"
    echo "1..1"
    exit 0
fi
unset HF_HUB_OFFLINE HF_TOKEN HF_HUB_CACHE HUGGINGFACE_HUB_CACHE HF_HUB_DISABLE_IMPLICIT_TOKEN HF_TOKEN_PATH http_proxy
export RUST_LOG=warn no_proxy=127.0.0.1
mkdir -p repos/org
for mood in model private gated limited busy shaky torn stall small large huge corrupt norange wrongrange slow loop noise \
    vanished badtag evil; do
    mkdir repos/org/$mood
    ln "$model" repos/org/$mood/tiny.gguf 2>/dev/null || cp "$model" repos/org/$mood/tiny.gguf
done
mkdir repos/org/two && cp "$model" repos/org/two/first.gguf && cp "$model" repos/org/two/second.gguf
cp -r "$repo/tests/conformance/hf/gemma2-sharded" repos/org/folder
rm repos/org/folder/golden.safetensors
for extra in pytorch_model.bin README.md consolidated.safetensors; do echo "not needed" >repos/org/folder/$extra; done
echo '{"eos_token_id": [1, 2]}' >repos/org/folder/generation_config.json
cp -r repos/org/folder repos/org/strays
sed 's/model-00002-of/..\/model-00002-of/' repos/org/folder/model.safetensors.index.json >repos/org/strays/model.safetensors.index.json

python3 "$repo/tests/e2e/hub_server.py" repos requests >ports &
server=$!
trap 'kill $server; rm -rf "$scratch"' EXIT
i=0
while [ ! -s ports ] && [ $i -lt 200 ]; do sleep 0.05 && i=$((i + 1)); done
read -r hub_port _ <ports
export HF_ENDPOINT=http://127.0.0.1:$hub_port/

# fresh: a cache without anything, and no requests yet. n_requests [PATTERN]: how many there were.
fresh() {
    rm -rf home
    export HF_HOME=$scratch/home
    : >requests
}
n_requests() { grep -c -- "${1:-.}" requests; }
snapshot() { echo "$scratch/home/hub/models--org--$1/snapshots/0123456789abcdef0123456789abcdef01234567"; }
holds() { result "$1" "$([ "$2" -"$3" "$4" ] && echo 0 || echo 1)"; }
worker() { echo "{\"runner_settings\": $1}" >worker.json; }
cat >job.json <<'JSON'
{"args": {"prompt": "Once upon", "options": {"max_tokens": 4, "temperature": 0}}, "using": "completion"}
JSON

# The plain case: through the plugin, then from the warm cache.
fresh
worker '{"gguf_model": {"model_name_or_path": "org/model"}}'
passes "a job of a model on the hub" "$cli" run --worker worker.json --job job.json
mv out hub.txt
worker "{\"gguf_model\": {\"model_name_or_path\": \"$model\"}}"
run "$cli" run --worker worker.json --job job.json
sed 's/"total_[a-z_]*": [0-9.e-]*//' out >local.txt && sed -i 's/"total_[a-z_]*": [0-9.e-]*//' hub.txt
same "it answers as the local file does" hub.txt local.txt
same "its file has the right bytes" "$(snapshot model)/tiny.gguf" "$model"
link=$(readlink "$(snapshot model)/tiny.gguf")
[ "$link" = "../../blobs/$(sha256sum <"$model" | cut -d' ' -f1)" ]
result "it is a relative link to a blob that is named by its digest" $?
[ "$(cat home/hub/models--org--model/refs/main)" = 0123456789abcdef0123456789abcdef01234567 ]
result "the revision's commit is noted" $?
holds "it came in ranges" "$(n_requests '^cdn.*bytes=')" gt 3
[ "$(find home -name '*mistral-runner*' | wc -l)" -eq 0 ]
result "nothing unfinished is left" $?
: >requests
passes "again" "$cli" download org/model
holds "the warm cache costs one request" "$(n_requests)" eq 1
: >requests
worker '{"gguf_model": {"model_name_or_path": "org/model", "gguf_files": ["tiny.gguf"]}}'
passes "an offline start" env HF_HUB_OFFLINE=1 "$cli" run --worker worker.json --job job.json
passes "an offline start of a commit" env HF_HUB_OFFLINE=1 "$cli" download org/model@0123456789abcdef0123456789abcdef01234567
passes "a start of a commit that is there" "$cli" download org/model@0123456789abcdef0123456789abcdef01234567 tiny.gguf
passes "complete -m ORG/NAME" env HF_HUB_OFFLINE=1 "$cli" complete -m org/model -p Once -n 2
passes "tokenize -m ORG/NAME/FILE" env HF_HUB_OFFLINE=1 "$cli" tokenize -m org/model/tiny.gguf --text Once
holds "none of them asked anything" "$(n_requests)" eq 0
refuses "offline, another model" 1 "HF_HUB_OFFLINE" env HF_HUB_OFFLINE=1 "$cli" download org/two
passes "an unreachable hub, a warm cache" env HF_ENDPOINT=http://127.0.0.1:9 "$cli" download org/model
grep -q "from the cache" err
result "there is a warning" $?
refuses "an unreachable hub, a cold cache" 1 "cannot be reached" env HF_ENDPOINT=http://127.0.0.1:9 "$cli" download org/two

# A folder: only what is needed.
fresh
passes "a model of safetensors" "$cli" download org/folder
[ "$(cat out)" = "$(snapshot folder)" ] && [ -f "$(cat out)/model-00007-of-00007.safetensors" ] && [ -f "$(cat out)/generation_config.json" ]
result "its folder is complete" $?
holds "nothing more was downloaded" "$(n_requests 'pytorch\|README\|consolidated')" eq 0
worker '{"gguf_model": {"model_name_or_path": "org/folder"}}'
refuses "gguf_model of it" 1 "text_model" "$cli" run --worker worker.json --job job.json
refuses "an index that leads out of the folder" 1 "which is not there" "$cli" download org/strays

# Choices and names.
refuses "several GGUF files" 1 "first.gguf, second.gguf" "$cli" download org/two
refuses "a name that is nearly right" 1 "did you mean second.gguf?" "$cli" download org/two secnd.gguf
passes "one of two" "$cli" download org/two second.gguf
refuses "a missing repository" 1 "no repository org/nothing" "$cli" download org/nothing
refuses "a missing revision" 1 "no revision \"v9\"" "$cli" download org/model@v9
refuses "a file that vanishes" 1 "no file tiny.gguf" "$cli" download org/vanished
refuses "a name that leads out of the cache" 1 "no name of a repository" "$cli" download ../..
passes "names that lead out of the cache are left out" "$cli" download org/evil
refuses "an etag that leads out of the cache" 1 "no etag" "$cli" download org/badtag
refuses "a page that is no list" 1 "something else" "$cli" download org/noise
refuses "a loop of redirects" 1 "redirects" "$cli" download org/loop

# Tokens.
fresh
refuses "a gated model" 1 "accept its terms" "$cli" download org/gated
refuses "a gated model with a token" 1 "belongs to that account" env HF_TOKEN=other "$cli" download org/gated
refuses "a private model without a token" 1 "set HF_TOKEN" "$cli" download org/private
passes "a private model with a token" env HF_TOKEN=secret "$cli" download org/private
holds "the hub got the token" "$(n_requests '^hub.*token=Bearer_secret')" gt 2
holds "the other server did not" "$(n_requests '^cdn.*token=Bearer')" eq 0
rm -rf home/hub && echo secret >home/token
passes "a private model with the token file" "$cli" download org/private
refuses "a token that is none" 1 "holds no token" env HF_TOKEN="a b" "$cli" download org/model

# Trouble on the way.
fresh
for mood in busy shaky torn norange; do
    passes "a server that is $mood" "$cli" download org/$mood
    same "the bytes are right" "$(snapshot $mood)/tiny.gguf" "$model"
done
refuses "too many requests" 1 "HTTP 429" "$cli" download org/limited
passes "a server that stops" env HF_HUB_DOWNLOAD_TIMEOUT=1 "$cli" download org/stall
same "the bytes are right" "$(snapshot stall)/tiny.gguf" "$model"
refuses "other bytes than promised" 1 "digest" "$cli" download org/corrupt
refuses "fewer bytes than there are" 1 "the server has" "$cli" download org/small
refuses "more bytes than there are" 1 "the server has" "$cli" download org/large
refuses "more bytes than the disk holds" 1 "no room" "$cli" download org/huge
refuses "another range than asked for" 1 "another range" "$cli" download org/wrongrange
[ "$(find home -name '*.gguf' -path '*corrupt*' | wc -l)" -eq 0 ]
result "nothing wrong is in a snapshot" $?

# Killed and repeated. kill_halfway: kills a download of org/slow when some bytes are there.
kill_halfway() {
    fresh
    "$cli" download org/slow >out 2>err &
    pid=$!
    i=0
    while ! grep -q "^cdn" requests && [ $i -lt 200 ]; do sleep 0.05 && i=$((i + 1)); done
    sleep 0.3
    kill -KILL $pid
    wait $pid 2>/dev/null
}
kill_halfway
[ -f home/hub/models--org--slow/blobs/*.incomplete ]
result "a killed download leaves its beginning" $?
: >requests
passes "it is repeated" env RUST_LOG=info "$cli" download org/slow
grep -q "going on after" err
result "it went on" $?
holds "where it had ended" "$(n_requests '^cdn.*bytes=0-')" eq 0
same "the bytes are right" "$(snapshot slow)/tiny.gguf" "$model"
kill_halfway
printf 'wrong' | dd of="$(echo home/hub/models--org--slow/blobs/*.incomplete)" conv=notrunc 2>dd.log
passes "one whose beginning was spoilt is repeated" "$cli" download org/slow
grep -q "downloaded again" err
result "it began again" $?
same "the bytes are right" "$(snapshot slow)/tiny.gguf" "$model"

# Two at once share one download; cancelling ends one at once.
fresh
"$cli" download org/slow >out1 2>err1 &
first=$!
"$cli" download org/slow >out2 2>err2 &
second=$!
wait $first && wait $second && cmp -s out1 out2
result "two downloads at once" $?
holds "share the bytes" "$(n_requests '^cdn')" eq 6
same "the bytes are right" "$(snapshot slow)/tiny.gguf" "$model"
fresh
worker '{"gguf_model": {"model_name_or_path": "org/slow"}}'
"$cli" run --worker worker.json --job job.json >out 2>err &
pid=$!
i=0
while ! grep -q ^cdn requests && [ $i -lt 200 ]; do sleep 0.05 && i=$((i + 1)); done
kill -INT $pid
wait $pid
holds "Ctrl-C ends a download of the plugin" $? eq 130
[ ! -e "$(snapshot slow)/tiny.gguf" ]
result "it was not whole yet" $?
finish
