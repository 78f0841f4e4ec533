#!/usr/bin/env python3
"""Our tokenizers against Hugging Face `tokenizers`, one thread each, on the same files in one run.

    python3 bench/bench_tokenizer.py --program build/bench_tokenizer VOCABULARIES FILE...

VOCABULARIES are folders with a tokenizer.json (see tests/conformance/tokenizers/vocabularies.py); FILEs are texts to measure.
Runs of one letter, of spaces and of one Chinese character (1 MB each) are added. Prints MB/s and the ratio, best of the runs
of about a second each. Times are processor time.
"""
import argparse, os, subprocess, sys, tempfile, time

os.environ["TOKENIZERS_PARALLELISM"] = "false"
os.environ["RAYON_NUM_THREADS"] = "1"
from tokenizers import Tokenizer


def reference(tok, path):
    with open(path, "rb") as f:
        text = f.read().decode("utf-8", "replace")
    best, spent, runs = 1e30, 0, 0
    size = os.path.getsize(path)
    while runs < 2 or (spent < 1 and runs < 100):
        start = time.process_time()
        ids = tok.encode_batch_fast([text], add_special_tokens=False)[0].ids
        seconds = time.process_time() - start
        best, spent, runs = min(best, seconds), spent + seconds, runs + 1
        if spent > 15:
            break
    return size / 1e6 / best, len(ids)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--program", required=True)
    parser.add_argument("--vocabulary", action="append", required=True)
    parser.add_argument("files", nargs="+")
    args = parser.parse_args()
    slower = 0
    with tempfile.TemporaryDirectory() as folder:
        files = list(args.files)
        for name, text in (("run of a", "a" * 1000000), ("run of spaces", " " * 1000000), ("run of U+65E5", "日" * 333333)):
            path = os.path.join(folder, name)
            with open(path, "w") as f:
                f.write(text)
            files.append(path)
        print(f"{'vocabulary':14} {'file':24} {'ours MB/s':>10} {'HF MB/s':>9} {'ratio':>7}")
        for vocabulary in args.vocabulary:
            path = os.path.join(vocabulary, "tokenizer.json")
            name = os.path.basename(vocabulary.rstrip("/"))
            lines = subprocess.run([args.program, path, *files], check=True, capture_output=True, text=True).stdout.splitlines()
            start = time.process_time()
            tok = Tokenizer.from_file(path)
            load = (time.process_time() - start) * 1e3
            ours = float(lines[0].split("\t")[1])
            print(f"{name:14} {'load, ms':24} {ours:10.1f} {load:9.1f} {load / ours:6.1f}x")
            for line in lines[1:]:
                file, speed, n = line.split("\t")
                theirs, n_theirs = reference(tok, file)
                note = "" if n_theirs == int(n) else f"  TOKENS DIFFER {n} {n_theirs}"
                ratio = float(speed) / theirs
                slower += ratio < 1
                print(f"{name:14} {os.path.basename(file):24} {float(speed):10.2f} {theirs:9.2f} {ratio:6.1f}x{note}", flush=True)
    print(f"{slower} slower than the reference")
    return 1 if slower else 0


if __name__ == "__main__":
    sys.exit(main())
