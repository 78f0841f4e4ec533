#!/usr/bin/env python3
"""Makes golden/: small trained vocabularies and what Hugging Face `tokenizers` and `sentencepiece` make of texts with them.

    python3 make_golden.py          (needs `tokenizers` and `sentencepiece`)

golden/NAME.json or NAME.model is a vocabulary; NAME.cases has a line for each text:
    hex of the text <tab> ids <tab> ids with special texts as plain text <tab> ids with bos and eos <tab> hex of the decoded
ids; a SentencePiece model has only the third of these columns and the last. An ids column of "!" is an error.
"""
import os, shutil, subprocess, sys, tempfile

import differential

STRINGS = 44
HERE = os.path.dirname(os.path.abspath(__file__))


def ids_text(ids):
    return "!" if isinstance(ids, tuple) else " ".join(map(str, ids))


def cases(reference, texts):
    as_text = [t.decode("utf-8", "replace") for t in texts]
    columns = {kind: reference.encode(kind, as_text) for kind in reference.kinds}
    decode = b"d" if b"e" in columns else b"s"
    for i, text in enumerate(texts):
        ids = [columns[kind][i] if kind in columns else None for kind in (b"e", b"p", b"b")]
        first = ids[0] if ids[0] is not None else ids[1]
        decoded = b"" if isinstance(first, tuple) or not first else reference.decode(decode, first)
        yield "\t".join([text.hex(), *("" if c is None else ids_text(c) for c in ids), decoded.hex()])


def main():
    out = os.path.join(HERE, "golden")
    shutil.rmtree(out, ignore_errors=True)
    os.makedirs(out)
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run([sys.executable, os.path.join(HERE, "vocabularies.py"), folder, "--small"], check=True)
        for name in sorted(os.listdir(folder)):
            for file, reference in (("tokenizer.json", differential.HuggingFace), ("tokenizer.model", differential.SentencePiece)):
                path = os.path.join(folder, name, file)
                if not os.path.exists(path):
                    continue
                generator = differential.Generator("golden " + name)
                texts = [b""]
                while len(texts) < STRINGS:
                    data = generator.data()
                    if len(data) < 200:
                        texts.append(data)
                shutil.copy(path, os.path.join(out, name + os.path.splitext(file)[1]))
                with open(os.path.join(out, name + ".cases"), "w") as f:
                    f.writelines(line + "\n" for line in cases(reference(path), texts))


if __name__ == "__main__":
    main()
