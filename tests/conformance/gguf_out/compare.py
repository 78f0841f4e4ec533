#!/usr/bin/env python3
"""Do the GGUF files that `mistral-runner quantize` writes mean the same to llama.cpp?

    compare.py MISTRAL_RUNNER [--types F32,F16,Q8_0,Q4_K_M,...]

Makes tiny random models as Hugging Face folders (with byte-level and SentencePiece tokenizers), writes each as GGUF in
each type, loads the files with llama.cpp, and compares: token ids of texts, logits of a prompt, and greedy text. Then
does the same for the embedded model's file, from GGUF to GGUF. Needs PyPI numpy, safetensors, tokenizers, sentencepiece
and llama-cpp-python (which builds llama.cpp).
"""

import argparse
import json
import pathlib
import subprocess
import sys
import tempfile

import numpy as np
import safetensors.numpy

ROOT = pathlib.Path(__file__).parents[3]
TEXT = "".join((ROOT / n).read_text() for n in ["README.md", "models/README.md", "LICENSE"])
PROMPTS = ["Hello world, it's 12345 tests!\n\n  don't stop", "The licence says  \"AS IS\" \u00e9\u4f60\u597d \U0001f600 x"]
CL100K = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}%s| ?[^\s\p{L}\p{N}]+[\r\n]*"
          r"|\s*[\r\n]+|\s+(?!\S)|\s+")
TEMPLATE = "{% for m in messages %}<s>{{ m['role'] }}: {{ m['content'] }}</s>{% endfor %}"


def byte_level(folder, pattern, normalizer=None, bos=False):
    from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
    tok = Tokenizer(models.BPE(ignore_merges=bos))
    if normalizer == "NFC":
        tok.normalizer = normalizers.NFC()
    tok.pre_tokenizer = pre_tokenizers.Sequence([
        pre_tokenizers.Split(Regex(pattern), "isolated"), pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
    tok.decoder = decoders.ByteLevel()
    tok.train_from_iterator([TEXT], trainers.BpeTrainer(
        vocab_size=500, special_tokens=["<s>", "</s>"], initial_alphabet=pre_tokenizers.ByteLevel.alphabet()))
    if bos:
        tok.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 0)])
    tok.save(str(folder / "tokenizer.json"))
    (folder / "tokenizer_config.json").write_text(json.dumps(
        {"bos_token": "<s>", "eos_token": "</s>", "chat_template": TEMPLATE}))


def sentencepiece_model(folder):
    import sentencepiece
    (folder / "text.txt").write_text(TEXT)
    sentencepiece.SentencePieceTrainer.train(
        input=str(folder / "text.txt"), model_prefix=str(folder / "tokenizer"), vocab_size=500, model_type="bpe",
        byte_fallback=True, normalization_rule_name="identity", remove_extra_whitespaces=False, character_coverage=0.99,
        minloglevel=2)
    (folder / "text.txt").unlink()
    (folder / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "LlamaTokenizer", "add_bos_token": True}))


def sentencepiece_json(folder):
    """The same as tokenizer.json, as `transformers` converts it: merges in the order of the merged pieces' scores."""
    import sentencepiece
    from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, processors
    sentencepiece_model(folder)
    sp = sentencepiece.SentencePieceProcessor(model_file=str(folder / "tokenizer.model"))
    vocab = {sp.id_to_piece(i): i for i in range(sp.vocab_size())}
    merges = []
    for piece, rank in sorted(vocab.items(), key=lambda item: -sp.get_score(item[1])):
        local = [(piece[:i], piece[i:]) for i in range(1, len(piece)) if piece[:i] in vocab and piece[i:] in vocab]
        if not sp.is_byte(rank) and not sp.is_control(rank) and not sp.is_unknown(rank):
            merges += sorted(local, key=lambda pair: (vocab[pair[0]], vocab[pair[1]]))
    tok = Tokenizer(models.BPE(vocab, merges, unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    tok.normalizer = normalizers.Sequence([normalizers.Prepend("\u2581"), normalizers.Replace(" ", "\u2581")])
    tok.decoder = decoders.Sequence([decoders.Replace("\u2581", " "), decoders.ByteFallback(), decoders.Fuse(),
                                     decoders.Strip(" ", 1, 0)])
    tok.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    tok.add_special_tokens([AddedToken(t, special=True, normalized=False) for t in ("<unk>", "<s>", "</s>")])
    tok.save(str(folder / "tokenizer.json"))
    (folder / "tokenizer.model").unlink()


def write_model(folder, model_type, n_experts=0, dtype="F32", bias=False, qk_norm=False, tied=False):
    n_vocab, n, n_layer, n_head, n_kv, hd, ff = 512, 256, 4, 4, 2, 64, 512
    rng = np.random.default_rng(7)
    tensors = {}

    def put(name, *shape, scale=None):
        if len(shape) == 1:
            value = (1 if scale is None else 0) + rng.normal(0, 0.1, shape)
        else:
            value = rng.normal(0, shape[-1] ** -0.5 * (scale or 1.5), shape)
        tensors[name] = value.astype({"F32": np.float32, "F16": np.float16}[dtype])

    put("model.embed_tokens.weight", n_vocab, n, scale=12.0)
    put("model.norm.weight", n)
    if not tied:
        put("lm_head.weight", n_vocab, n, scale=4.0)
    for i in range(n_layer):
        p = f"model.layers.{i}."
        put(p + "input_layernorm.weight", n)
        put(p + "post_attention_layernorm.weight", n)
        for name, rows, cols in (("q", n_head * hd, n), ("k", n_kv * hd, n), ("v", n_kv * hd, n), ("o", n, n_head * hd)):
            put(p + f"self_attn.{name}_proj.weight", rows, cols)
            if bias and name != "o":
                put(p + f"self_attn.{name}_proj.bias", rows, scale=0.1)
        if qk_norm:
            put(p + "self_attn.q_norm.weight", hd)
            put(p + "self_attn.k_norm.weight", hd)
        if n_experts:
            put(p + "block_sparse_moe.gate.weight", n_experts, n)
            for e in range(n_experts):
                for w, rows, cols in (("w1", ff, n), ("w3", ff, n), ("w2", n, ff)):
                    put(p + f"block_sparse_moe.experts.{e}.{w}.weight", rows, cols)
        else:
            for w, rows, cols in (("gate", ff, n), ("up", ff, n), ("down", n, ff)):
                put(p + f"mlp.{w}_proj.weight", rows, cols)
    safetensors.numpy.save_file(tensors, folder / "model.safetensors")
    config = dict(model_type=model_type, hidden_size=n, num_hidden_layers=n_layer, num_attention_heads=n_head,
                  num_key_value_heads=n_kv, head_dim=hd, intermediate_size=ff, rms_norm_eps=1e-5, rope_theta=10000.0,
                  max_position_embeddings=512, vocab_size=n_vocab, tie_word_embeddings=tied)
    if n_experts:
        config.update(num_local_experts=n_experts, num_experts_per_tok=2)
    (folder / "config.json").write_text(json.dumps(config))


FOLDERS = {
    "llama-bpe": (dict(model_type="llama"), lambda f: byte_level(f, CL100K % "{1,3}", bos=True)),
    "llama-spm": (dict(model_type="llama", dtype="F16", tied=True), sentencepiece_model),
    "mistral-json": (dict(model_type="mistral"), sentencepiece_json),
    "qwen2": (dict(model_type="qwen2", bias=True), lambda f: byte_level(f, CL100K % "", "NFC")),
    "qwen3": (dict(model_type="qwen3", qk_norm=True), lambda f: byte_level(f, CL100K % "", "NFC")),
    "mixtral": (dict(model_type="mixtral", n_experts=4), sentencepiece_json),
}


def ours(runner, model, ids):
    out = subprocess.run([runner, "logits", "-m", model, "--all", "--tokens", ",".join(map(str, ids))], check=True,
                         stdout=subprocess.PIPE)
    return np.array(json.loads(out.stdout), np.float32)


def our_ids(runner, model, text):
    out = subprocess.run([runner, "tokenize", "-m", model, "--text", text], check=True, stdout=subprocess.PIPE)
    return [int(i) for i in out.stdout.split()]


class Theirs:
    def __init__(self, path):
        import llama_cpp
        self.llm = llama_cpp.Llama(str(path), n_ctx=256, n_batch=256, n_threads=1, logits_all=True, verbose=False, type_k=0, type_v=0)

    def ids(self, text):
        return self.llm.tokenize(text.encode(), add_bos=True, special=True)

    def logits(self, ids):
        self.llm.reset()
        self.llm.eval(ids)
        return np.array(self.llm.scores[:len(ids)])

    def greedy(self, ids, n):
        """The ids and the least lead of the chosen one over the next."""
        out, lead = list(ids), np.inf
        self.llm.reset()
        self.llm.eval(out)
        for _ in range(n):
            row = np.array(self.llm.scores[len(out) - 1])
            best = int(row.argmax())
            lead = min(lead, row[best] - np.partition(row, -2)[-2])
            out.append(best)
            self.llm.eval([best])
        return out[len(ids):], lead


def our_greedy(runner, path, ids, n):
    out = list(ids)
    for _ in range(n):
        rows = subprocess.run([runner, "logits", "-m", path, "--tokens", ",".join(map(str, out))], check=True,
                              stdout=subprocess.PIPE)
        out.append(int(np.argmax(json.loads(rows.stdout)[-1])))
    return out[len(ids):]


def compare(runner, name, kind, path, n_greedy):
    theirs = Theirs(path)
    texts = sum(our_ids(runner, path, p) == theirs.ids(p) for p in PROMPTS)
    ids = theirs.ids(PROMPTS[0])[:48]
    a, b = ours(runner, path, ids), theirs.logits(ids)
    rms = float(np.sqrt(((a - b) ** 2).mean()))
    error = rms / b.std()
    same = float((a.argmax(1) == b.argmax(1)).mean())
    their_ids, lead = theirs.greedy(ids, n_greedy)
    text = "same" if our_greedy(runner, path, ids, n_greedy) == their_ids else "other"
    exact = kind in ("F32", "F16", "BF16")
    most = 1e-4 if kind == "F32" else 1e-2 if exact else 0.12 if name == "mixtral" else 6e-2
    # Inputs of products are rounded to 16 or 8 bits where weights have few, in different ways.
    good = texts == len(PROMPTS) and error < most and (text == "same" or lead < 8 * rms)
    print(f"{'ok' if good else 'FAIL':4} {name:14} {kind:7} token ids {texts}/{len(PROMPTS)}  logits {error:.1e} of their "
          f"deviation, arg-max {100 * same:5.1f} %  greedy {text} (least lead {lead:.3f})", flush=True)
    return good


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("runner")
    parser.add_argument("--types", default="F32,F16,BF16,Q8_0,Q4_0,Q5_1,Q2_K,Q3_K_M,Q4_K_M,Q5_K_M,Q6_K,IQ4_NL,IQ4_XS")
    parser.add_argument("--greedy", type=int, default=12)
    args = parser.parse_args()
    good = True
    with tempfile.TemporaryDirectory() as where:
        for name, (shape, tokenizer) in FOLDERS.items():
            folder = pathlib.Path(where, name)
            folder.mkdir()
            write_model(folder, **shape)
            tokenizer(folder)
            for kind in args.types.split(","):
                out = pathlib.Path(where, f"{name}-{kind}.gguf")
                subprocess.run([args.runner, "quantize", folder, out, kind], check=True, stdout=subprocess.DEVNULL)
                good = compare(args.runner, name, kind, out, args.greedy) and good
                # From GGUF to GGUF: the same bytes as in one step.
                if kind != "F32" and "F32" in args.types:
                    again = pathlib.Path(where, "again.gguf")
                    subprocess.run([args.runner, "quantize", pathlib.Path(where, f"{name}-F32.gguf"), again, kind],
                                   check=True, stdout=subprocess.DEVNULL)
                    if shape.get("dtype") is None and again.read_bytes() != out.read_bytes():
                        print(f"FAIL {name} {kind}: another file from {name}-F32.gguf than from the folder")
                        good = False
                if kind != "F32":
                    out.unlink()
        for kind in args.types.split(","):
            out = pathlib.Path(where, f"tiny-{kind}.gguf")
            subprocess.run([args.runner, "quantize", "--again", ROOT / "models/mistral-runner-tiny.gguf", out, kind],
                           check=True, stdout=subprocess.DEVNULL)
            good = compare(args.runner, "tiny (trained)", kind, out, args.greedy) and good
    sys.exit(0 if good else 1)


if __name__ == "__main__":
    main()
