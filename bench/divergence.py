"""How far a quantized model's run is from a run of the same weights as floats.

    python3 bench/divergence.py --program build/mistral-runner MODEL.gguf TEXT... [--positions 2000]

The float model is MODEL dequantized (`quantize --again ... F32`), so what remains is the error of the kernels: activations
rounded to 8 bits. Both read the texts in pieces of 128 tokens. Prints the mean and the largest Kullback-Leibler divergence
KL(float || quantized) over the positions, in nats, and how often both have the same most probable token.
"""

import argparse
import json
import math
import os
import subprocess
import tempfile

PIECE = 128


def output(command):
    return subprocess.run(command, stdout=subprocess.PIPE, check=True, text=True).stdout


def logits(program, model, tokens):
    return json.loads(output([program, "logits", "-m", model, "--all", "--tokens", ",".join(map(str, tokens))]))


def log_softmax(row):
    most = max(row)
    total = most + math.log(sum(math.exp(x - most) for x in row))
    return [x - total for x in row]


def compare(expected, got):
    """-> (divergence, same most probable token)"""
    p, q = log_softmax(expected), log_softmax(got)
    divergence = sum(math.exp(a) * (a - b) for a, b in zip(p, q))
    return divergence, p.index(max(p)) == q.index(max(q))


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--program", default="build/mistral-runner")
    parser.add_argument("--positions", type=int, default=2000)
    parser.add_argument("model")
    parser.add_argument("texts", nargs="+")
    args = parser.parse_args()
    tokens = []
    for path in args.texts:
        with open(path, encoding="utf-8") as f:
            tokens += map(int, output([args.program, "tokenize", "-m", args.model, "--no-bos", "--text", f.read(60000)]).split())
    tokens = tokens[: args.positions]
    results = []
    with tempfile.TemporaryDirectory() as folder:
        floats = os.path.join(folder, "floats.gguf")
        output([args.program, "quantize", "--again", args.model, floats, "F32"])
        for at in range(0, len(tokens), PIECE):
            piece = tokens[at : at + PIECE]
            results += map(compare, logits(args.program, floats, piece), logits(args.program, args.model, piece))
    divergences = [d for d, _ in results]
    same = sum(equal for _, equal in results)
    print(f"{len(results)} positions: KL mean {sum(divergences) / len(results):.3g}, largest {max(divergences):.3g}; "
          f"same top token {100 * same / len(results):.2f} %")


if __name__ == "__main__":
    main()
