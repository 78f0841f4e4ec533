"""Measures mistral-runner, beside a peer's llama-bench where PEER names one, and records a table and a plot.

Ours and the peer run in turns, one repetition at a time; a row's figure is the median, its ratio the median of the ratios of
neighbouring runs. A peer that knows run-time repacking (-rtr) is measured with and without it and counted with the better of
the two. See run.sh for the settings.
"""

import datetime
import json
import os
import platform
import statistics
import subprocess
import sys

BUILD = sys.argv[1]
OURS = os.path.join(BUILD, "mistral-runner")
PEER = os.environ.get("PEER", "")
PEER_BATCHED = os.environ.get("PEER_BATCHED", "")
RUNS = int(os.environ.get("RUNS", "5"))
THREADS = os.environ.get("THREADS", "2")
TYPES = os.environ.get("TYPES", "Q4_K_M Q8_0 Q4_0 Q6_K BF16").split()
TESTS = os.environ.get("TESTS", "pp128 pp512 pp2048 tg64 tg64@1000 tg64@4000 x1 x4 x8").split()
MODELS = os.environ.get("MODELS", os.path.join(BUILD, "bench-models"))
RESULTS = os.path.join(os.path.dirname(os.path.abspath(__file__)), "results")
CONCURRENT_PROMPT, CONCURRENT_GEN = 128, 64


def output(command):
    return subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, check=True, text=True).stdout


def parse(test):
    """-> (n_prompt, n_gen, depth, n_concurrent)"""
    if test[0] == "x":
        return CONCURRENT_PROMPT, CONCURRENT_GEN, 0, int(test[1:])
    name, _, depth = test.partition("@")
    n = int(name[2:])
    return (n, 0, int(depth or 0), 1) if name[:2] == "pp" else (0, n, int(depth or 0), 1)


def ours(model, test):
    p, n, d, c = parse(test)
    command = [OURS, "bench", "-m", model, "-t", THREADS, "-r", "1", "-o", "json"]
    if test[0] == "x":
        command += ["-p", str(p), "-n", str(n), "-c", str(c)]
        return json.loads(output(command))[-1]["avg_ts"]
    return json.loads(output(command + ["-p", str(p), "-n", str(n), "-d", str(d)]))[0]["avg_ts"]


def peer(model, test, repack):
    p, n, d, c = parse(test)
    if test[0] == "x":
        command = [PEER_BATCHED, "-m", model, "-t", THREADS, "-c", str(c * (p + n + 32)), "-b", "2048", "-ub", "512", "-npp",
                   str(p), "-ntg", str(n), "-npl", str(c)] + (["-rtr"] if repack else [])
        rows = [line.split("|") for line in output(command).splitlines() if line.startswith("|")]
        return float(rows[-1][-2])  # S t/s, all tokens over all time
    command = [PEER, "-m", model, "-t", THREADS, "-r", "1", "-o", "json"]
    if d > 0 and n > 0:
        command += ["-p", "0", "-n", "0", "-gp", f"{d},{n}"]
    else:
        command += ["-p", str(p), "-n", str(n)]
    if repack:
        command += ["-rtr", "1"]
    return json.loads(output(command))[-1]["avg_ts"]


def measure(model, test):
    """-> our median, peer's median or None, ratio or None, samples"""
    mine, theirs = [], {False: [], True: []}
    has_peer = bool(PEER_BATCHED if test[0] == "x" else PEER)
    modes = [m for m in (False, True) if has_peer and (not m or knows_repack())]
    for _ in range(RUNS):
        for mode in modes:
            theirs[mode].append(peer(model, test, mode))
        mine.append(ours(model, test))
    if not modes:
        return statistics.median(mine), None, None, {"ours": mine}
    best = max(modes, key=lambda m: statistics.median(theirs[m]))
    ratio = statistics.median(a / b for a, b in zip(mine, theirs[best]))
    return statistics.median(mine), statistics.median(theirs[best]), ratio, {"ours": mine, "peer": theirs[best]}


def knows_repack():
    if not hasattr(knows_repack, "answer"):
        text = subprocess.run([PEER, "--help"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True).stdout
        knows_repack.answer = "-rtr" in text
    return knows_repack.answer


def machine():
    name = platform.processor() or platform.machine()
    with open("/proc/cpuinfo", encoding="utf-8") as f:
        for line in f:
            if line.startswith("model name"):
                name = line.split(":", 1)[1].strip()
                break
    return f"{name}, {os.cpu_count()} cores, Linux {platform.release()}"


def svg(rows, path):
    """Bars of every test: ours over the peer's, scaled to the larger of the two."""
    width, bar, gap, left = 760, 12, 14, 190
    parts, y = [], 20
    for row in rows:
        most = max(row["ours"], row["peer"] or 0.0)
        parts.append(f'<text x="{left - 8}" y="{y + bar}" text-anchor="end">{row["type"]} {row["test"]}</text>')
        for key, colour in (("ours", "#2563eb"), ("peer", "#9ca3af")):
            if row[key]:
                w = (width - left - 90) * row[key] / most
                parts.append(f'<rect x="{left}" y="{y}" width="{w:.1f}" height="{bar}" fill="{colour}"/>')
                parts.append(f'<text x="{left + w + 6:.1f}" y="{y + bar - 2}">{row[key]:.1f}</text>')
                y += bar + 2
        y += gap
    head = f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{y}" font-family="sans-serif" font-size="11">'
    note = f'<text x="{left}" y="12">tokens/s: blue mistral-runner, grey peer</text>'
    with open(path, "w", encoding="utf-8") as f:
        f.write("\n".join([head, note, *parts, "</svg>\n"]))


def main():
    os.makedirs(MODELS, exist_ok=True)
    os.makedirs(RESULTS, exist_ok=True)
    rows = []
    for kind in TYPES:
        model = os.path.join(MODELS, f"1b-{kind}.gguf")
        if not os.path.exists(model):
            subprocess.run([OURS, "synth", "--arch", "llama", "--preset", "1b", "--type", kind, "-o", model], check=True)
        for test in TESTS:
            mine, theirs, ratio, samples = measure(model, test)
            rows.append({"type": kind, "test": test, "ours": mine, "peer": theirs, "ratio": ratio, "samples": samples})
            print(f"{kind:8} {test:12} ours {mine:8.2f}" + (f"  peer {theirs:8.2f}  ratio {ratio:.2f}" if theirs else ""), flush=True)
    commit = output(["git", "rev-parse", "--short", "HEAD"]).strip()
    stem = os.path.join(RESULTS, f"{datetime.date.today().isoformat()}-{commit}")
    with open(stem + ".json", "w", encoding="utf-8") as f:
        json.dump({"machine": machine(), "commit": commit, "threads": THREADS, "runs": RUNS, "peer": os.path.basename(PEER), "rows": rows}, f, indent=1)
    with open(stem + ".md", "w", encoding="utf-8") as f:
        f.write(f"# {commit}, {datetime.date.today().isoformat()}\n\n{machine()}, {THREADS} threads, median of {RUNS} runs in turns, tokens/s.\n\n")
        f.write("| type | test | ours | peer | ratio |\n| --- | --- | ---: | ---: | ---: |\n")
        for r in rows:
            f.write(f"| {r['type']} | {r['test']} | {r['ours']:.1f} | " + (f"{r['peer']:.1f} | {r['ratio']:.2f} |\n" if r["peer"] else "– | – |\n"))
    svg(rows, stem + ".svg")
    print(f"wrote {stem}.md, .json and .svg")


if __name__ == "__main__":
    main()
