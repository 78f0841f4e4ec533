"""How far a quantized model's run is from a run of the same weights as floats, for ours and for peers.

    python3 bench/divergence.py [--program build/mistral-runner] [--positions 2000] [--types Q4_K_M,Q8_0] \\
        [--peer NAME=PROGRAM]... MODEL.gguf TEXT...

With --types, MODEL is first quantized to each of them; without, it is taken as it is. The float model is the quantized file
dequantized (`quantize --again ... F32`), so what remains is the error of the kernels: activations rounded to 8 bits. All runs
read the same tokens in pieces of 128. PROGRAM is what peer_logits.c makes; it reads the same two files. Prints a row for each
type and engine: the mean and the largest Kullback-Leibler divergence KL(float || quantized) over the positions, in nats, how
often both have the same most probable token, and our mean divided by the peer's. "floats" is the mean divergence between our
float run and the peer's, which should be far below the rest. Needs numpy.
"""

import argparse
import json
import os
import subprocess
import tempfile

import numpy

PIECE = 128


def output(command, **options):
    return subprocess.run(command, stdout=subprocess.PIPE, check=True, **options).stdout


def our_run(program, model, tokens):
    """-> logits [n_tokens, n_vocab]"""
    rows = []
    for at in range(0, len(tokens), PIECE):
        piece = ",".join(map(str, tokens[at : at + PIECE]))
        rows.append(json.loads(output([program, "logits", "-m", model, "--all", "--tokens", piece])))
    return numpy.concatenate([numpy.array(piece, dtype=numpy.float32) for piece in rows])


def peer_run(program, model, tokens):
    """-> logits [n_tokens, n_vocab]"""
    raw = output([program, model, str(PIECE)], input=" ".join(map(str, tokens)).encode())
    return numpy.frombuffer(raw, dtype=numpy.float32).reshape(len(tokens), -1)


def log_softmax(logits):
    logits = logits.astype(numpy.float64)
    logits -= logits.max(axis=1, keepdims=True)
    return logits - numpy.log(numpy.exp(logits).sum(axis=1, keepdims=True))


def compare(expected, got):
    """-> (mean divergence, largest divergence, share of positions with the same most probable token)"""
    p, q = log_softmax(expected), log_softmax(got)
    divergence = (numpy.exp(p) * (p - q)).sum(axis=1)
    return divergence.mean(), divergence.max(), (p.argmax(axis=1) == q.argmax(axis=1)).mean()


def read_tokens(program, model, texts, positions):
    tokens = []
    for path in texts:
        with open(path, encoding="utf-8") as f:
            text = f.read(60000)
        tokens += map(int, output([program, "tokenize", "-m", model, "--no-bos", "--text", text]).split())
    return tokens[:positions]


def print_row(name, engine, mean, most, same, ratio="", floats=""):
    print(f"| {name} | {engine} | {mean:.3g} | {most:.3g} | {100 * same:.2f} % | {ratio} | {floats} |", flush=True)


def print_rows(name, program, peers, model, floats, tokens):
    our_floats = our_run(program, floats, tokens)
    ours = compare(our_floats, our_run(program, model, tokens))
    print_row(name, "ours", *ours)
    for engine, peer in peers:
        peer_floats = peer_run(peer, floats, tokens)
        theirs = compare(peer_floats, peer_run(peer, model, tokens))
        print_row(name, engine, *theirs, f"{ours[0] / theirs[0]:.2f}", f"{compare(our_floats, peer_floats)[0]:.0e}")


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--program", default="build/mistral-runner")
    parser.add_argument("--positions", type=int, default=2000)
    parser.add_argument("--types", help="names as of `mistral-runner quantize`, with commas between")
    parser.add_argument("--peer", action="append", default=[], metavar="NAME=PROGRAM")
    parser.add_argument("model")
    parser.add_argument("texts", nargs="+")
    args = parser.parse_args()
    tokens = read_tokens(args.program, args.model, args.texts, args.positions)
    print(f"{len(tokens)} positions\n")
    print("| type | engine | KL mean | largest | same top | ratio | floats |")
    print("| --- | --- | ---: | ---: | ---: | ---: | ---: |")
    peers = [peer.split("=", 1) for peer in args.peer]
    with tempfile.TemporaryDirectory() as folder:
        floats = os.path.join(folder, "floats.gguf")
        for name in args.types.split(",") if args.types else [os.path.basename(args.model)]:
            model = args.model
            if args.types:
                model = os.path.join(folder, "quantized.gguf")
                output([args.program, "quantize", "--again", args.model, model, name])
            output([args.program, "quantize", "--again", model, floats, "F32"])
            print_rows(name, args.program, peers, model, floats, tokens)


if __name__ == "__main__":
    main()
