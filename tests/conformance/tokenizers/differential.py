#!/usr/bin/env python3
"""Compares our tokenizers with Hugging Face `tokenizers` and `sentencepiece` on generated strings, encode and decode.

    python3 differential.py --driver DRIVER VOCABULARIES [--strings N] [--seed S] [--only NAME] [--sweep]

DRIVER is the program built from driver.c; VOCABULARIES is the folder that vocabularies.py wrote. --sweep adds every code
point of Unicode, one by one, between letters. Exit status 1 when anything differs.
"""
import argparse, json, os, random, struct, subprocess, sys, unicodedata
from concurrent.futures import ThreadPoolExecutor

from tokenizers import Tokenizer

WORDS = """the quick Brown FOX isn't can't we'LL they'Ve I'D o'clock rock'n'roll naïve café été word words wording Norm norm
String int main return def class self.value foo_bar fooBar FooBar HTTPServer x1y2 3.14159 1,234,567 2024-01-31 0xFF 100%
Straße Größe Ärger élève où ça señor mañana İstanbul ISTANBUL ıı ſtop 'ſ ’s привет мир Ёжик ΑΒΓ ςσ Ωμέγα שלום مرحبا بالعالم
नमस्ते हिन्दी สวัสดี ไทย བོད་ ကမ္ဘာ ಕನ್ನಡ 안녕하세요 한국어 日本語 東京 カタカナ ひらがな ー 、。 漢字 你好 世界 今天天气很好 北京 𠮷𠀀 ﬁ ﬂ ① ² ½ ℃ ㍿ Ⅷ ＡＢＣ １２３ ｶﾅ
😀 🤷🏽‍♀️ 👨‍👩‍👧‍👦 🇩🇪🇯🇵 ❤️ ✨ © ™ … “quoted” ‘single’ — – • → ≠ ∑ ▁ ▁▁ Ġ Ċ ## ##ing <unk> <s> </s> <left> <right> <both> <raw>
<raw><raw> [SPECIAL] [UNK] [CLS] <|endoftext|> <|im_start|> <|eot_id|> <|begin_of_text|> <0x0A> <0xE4> [INST]""".split()
SPACES = [" ", "  ", "   ", "\n", "\n\n", "\r\n", "\t", " \n", "\n ", "\u00a0", "\u3000", "\u2028", "\u200b", "\u0085", "\v", "\f",
          "        ", "\n\n\n\n", "\r", "\u2003", "\u1680", "\ufeff", "\u200d", "\u200c"]
PUNCTUATION = list("!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~") + ["...", "!!!", "?!", "--", "://", "//", "/*", "*/", "()", "{}", "\\n", "،", "؟", "।"]
MARKS = [chr(c) for c in range(0x300, 0x370)] + ["\u0591", "\u064b", "\u0902", "\u093f", "\u0e31", "\u20dd", "\ufe0f", "\u3099", "\u1ab0",
                                                 "\u05bf", "\u0655", "\U0001d165", "\U0001e8d0"]
RUNS = ["a", " ", "\n", "日", "é", "😀", "1", ".", "\u0301", "ー", "A", "=", "\t", "ab", "的", "ก", "\r\n", "🇩", "▁", "'s", "各国", "\u200d"]


class Generator:
    def __init__(self, seed):
        self.random = random.Random(seed)
        by_category = {}
        for c in range(0x110000):
            if not 0xD800 <= c <= 0xDFFF:
                by_category.setdefault(unicodedata.category(chr(c)), []).append(c)
        self.categories = list(by_category.values())

    def any_char(self):
        r = self.random
        kind = r.random()
        if kind < 0.5:
            return chr(r.choice(r.choice(self.categories)))
        if kind < 0.7:
            return chr(r.randrange(0x20, 0x7F))
        while True:
            c = r.randrange(0x110000) if kind < 0.8 else r.randrange(0x3000)
            if not 0xD800 <= c <= 0xDFFF:
                return chr(c)

    def piece(self):
        r = self.random
        kind = r.randrange(20)
        if kind < 7:
            return r.choice(WORDS)
        if kind < 11:
            return r.choice(SPACES)
        if kind < 13:
            return r.choice(PUNCTUATION)
        if kind < 14:
            return r.choice("aeiouAEIOUnсоが") + "".join(r.choice(MARKS) for _ in range(r.randrange(1, 4)))
        if kind < 15:
            return str(r.randrange(10 ** r.randrange(1, 12)))
        if kind < 16:
            return r.choice(RUNS) * r.randrange(2, 40)
        if kind < 17:
            return chr(r.choice([*range(0, 0x20), 0x7F, *range(0x80, 0xA0), 0xFFFD, 0xFFFE, 0xE000, 0x10FFFF, 0xAD]))
        if kind < 18:
            return "".join(r.choice(WORDS) for _ in range(3))
        return "".join(self.any_char() for _ in range(r.randrange(1, 6)))

    def text(self):
        r = self.random
        if r.random() < 0.02:
            return r.choice(RUNS) * r.randrange(50, 1500)
        parts = [self.piece() for _ in range(r.choice([1, 1, 2, 3, 4, 6, 8, 12, 20]))]
        return (" " if r.random() < 0.4 else "").join(parts)

    def data(self):
        """Bytes: most are a text, some have malformed parts."""
        r = self.random
        data = self.text().encode()
        if r.random() < 0.12:
            data = bytearray(data)
            for _ in range(r.randrange(1, 4)):
                at = r.randrange(len(data) + 1)
                data[at:at + r.randrange(2)] = r.choice([b"\xff", b"\xe4\xbd", b"\xf0\x9f\x98", b"\xc0\x80", b"\xed\xa0\x80", b"\x80",
                                                         b"\xf4\x90\x80\x80", b"\xc3", bytes([r.randrange(128, 256)])])
            data = bytes(data)
        return data


def sweep():
    text = []
    for c in range(0x110000):
        if 0xD800 <= c <= 0xDFFF:
            continue
        text.append(f"a{chr(c)}b {chr(c)}{chr(c)}1")
        if len(text) == 64:
            yield " ".join(text).encode()
            text = []
    yield " ".join(text).encode()


class Driver:
    """Sends all requests, then reads all answers; a thread feeds so that no pipe fills up."""

    def __init__(self, program, model):
        self.command = [program, model]

    def run(self, requests):
        process = subprocess.Popen(self.command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        stream = b"".join(kind + struct.pack("<I", len(data)) + data for kind, data in requests)
        with ThreadPoolExecutor(1) as pool:
            pool.submit(lambda: (process.stdin.write(stream), process.stdin.close()))
            out = process.stdout.read()
        if process.wait() != 0:
            raise SystemExit(f"driver ended with {process.returncode}")
        answers, at = [], 0
        for kind, _ in requests:
            (n,) = struct.unpack_from("<I", out, at)
            at += 4
            if n == 0xFFFFFFFF:
                end = out.index(b"\0", at)
                answers.append(("error", out[at:end].decode()))
                at = end + 1
            elif kind in (b"e", b"p", b"b"):
                answers.append(list(struct.unpack_from(f"<{n}i", out, at)))
                at += 4 * n
            else:
                answers.append(out[at:at + n])
                at += n
        return answers


class HuggingFace:
    def __init__(self, path):
        self.tok = Tokenizer.from_file(path)
        self.plain = Tokenizer.from_file(path)
        self.plain.encode_special_tokens = True
        for tok in (self.tok, self.plain):
            tok.no_truncation()
            tok.no_padding()
        self.n_vocab = self.tok.get_vocab_size(with_added_tokens=True)
        self.kinds = [b"e", b"p", b"b"]

    def encode(self, kind, texts):
        tok = self.plain if kind == b"p" else self.tok
        try:
            return [e.ids for e in tok.encode_batch_fast(texts, add_special_tokens=kind == b"b")]
        except Exception:
            out = []
            for text in texts:
                try:
                    out.append(tok.encode(text, add_special_tokens=kind == b"b").ids)
                except Exception as error:
                    out.append(("error", str(error)))
            return out

    def decode(self, kind, ids):
        return self.tok.decode(ids, skip_special_tokens=kind == b"s").encode()


class SentencePiece:
    def __init__(self, path):
        import sentencepiece as spm
        self.sp = spm.SentencePieceProcessor(model_file=path)
        self.n_vocab = self.sp.get_piece_size()
        self.kinds = [b"p"]

    def encode(self, kind, texts):
        return self.sp.encode(texts, num_threads=1)

    def decode(self, kind, ids):
        return self.sp.decode(ids).encode()


def check(name, folder, driver, texts, generator, show):
    json_path, model_path = (os.path.join(folder, f) for f in ("tokenizer.json", "tokenizer.model"))
    is_json = os.path.exists(json_path)
    reference = HuggingFace(json_path) if is_json else SentencePiece(model_path)
    driver = Driver(driver, json_path if is_json else model_path)
    as_text = [t.decode("utf-8", "replace") for t in texts]
    requests, expected, sources = [], [], []
    encoded = []
    for kind in reference.kinds:
        ids = reference.encode(kind, as_text)
        requests += [(kind, t) for t in texts]
        expected += ids
        sources += as_text
        encoded = ids
    lists = [i for i in encoded if not isinstance(i, tuple)]
    lists += [[generator.random.randrange(reference.n_vocab) for _ in range(generator.random.randrange(1, 12))]
              for _ in range(len(texts) // 4)]
    lists = [i for i in lists if i]
    for kind in (b"d", b"s") if is_json else (b"s",):
        requests += [(kind, struct.pack(f"<{len(i)}i", *i)) for i in lists]
        expected += [reference.decode(kind, i) for i in lists]
        sources += lists
    n = len(requests)
    if is_json:
        requests += [(b"t", struct.pack(f"<{len(i)}i", *i)) for i in lists]
        expected += expected[n - 2 * len(lists):n - len(lists)]
        sources += lists
    got = driver.run(requests)
    bad = {}
    for request, want, have, source in zip(requests, expected, got, sources):
        same = want == have or (isinstance(want, tuple) and isinstance(have, tuple))
        if same:
            continue
        kind = request[0].decode()
        bad[kind] = bad.get(kind, 0) + 1
        if bad[kind] <= show:
            print(f"  {name} {kind} {source!r:.300}\n    expected {want!r:.300}\n    got      {have!r:.300}")
    print(f"{name}: {len(texts)} strings, {len(requests)} comparisons, {sum(bad.values())} differences {bad or ''}", flush=True)
    return len(requests), sum(bad.values())


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("vocabularies")
    parser.add_argument("--driver", required=True)
    parser.add_argument("--strings", type=int, default=3000, help="for each vocabulary")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only", action="append")
    parser.add_argument("--sweep", action="store_true")
    parser.add_argument("--show", type=int, default=3)
    args = parser.parse_args()
    totals = [0, 0, 0, 0]
    for name in sorted(os.listdir(args.vocabularies)):
        if args.only and not any(o in name for o in args.only):
            continue
        generator = Generator(f"{args.seed} {name}")
        texts = [b""] + [generator.data() for _ in range(args.strings)]
        if args.sweep:
            texts += list(sweep())
        n, bad = check(name, os.path.join(args.vocabularies, name), args.driver, texts, generator, args.show)
        totals = [totals[0] + 1, totals[1] + len(texts), totals[2] + n, totals[3] + bad]
    print(f"{totals[0]} vocabularies, {totals[1]} strings, {totals[2]} comparisons, {totals[3]} differences")
    return 1 if totals[3] else 0


if __name__ == "__main__":
    sys.exit(main())
