"""Measures mistral-runner, beside a peer's llama-bench where PEER names one, and records a table and a plot.

Ours and the peer run in turns, one repetition at a time; a row's figure is the median, its ratio the median of the ratios of
neighbouring runs. A peer that knows run-time repacking (-rtr) is tried once with and once without it for each row, and
measured with the better of the two. When the time (BUDGET) is short, later rows get fewer runs. See run.sh for the settings.

Tests: ppN a prompt of N tokens; tgN or tgN@D generating N tokens (behind D others); xN N requests at once; load the seconds
of a process that loads the model and computes one token; mem its largest resident memory; prefix the seconds to the first
token of a prompt of 2,000 tokens and of a second one that shares them.
"""

import datetime
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time

from plot import figure, svg, unit

BUILD = sys.argv[1]
OURS = os.path.join(BUILD, "mistral-runner")
PEER = os.environ.get("PEER", "")
PEER_BATCHED = os.environ.get("PEER_BATCHED", "")
if PEER and not PEER_BATCHED and os.path.exists(os.path.join(os.path.dirname(PEER), "llama-batched-bench")):
    PEER_BATCHED = os.path.join(os.path.dirname(PEER), "llama-batched-bench")
RUNS = int(os.environ.get("RUNS", "5"))
THREADS = os.environ.get("THREADS", "2")
BUDGET = float(os.environ.get("BUDGET", "840"))
TYPES = os.environ.get("TYPES", "Q4_K_M Q8_0 Q4_0 Q6_K BF16").split()
TESTS = os.environ.get("TESTS", "pp512 tg64").split()
MORE = os.environ.get("MORE", "x8 pp3500 tg32@4000 load mem prefix").split()  # of the first type only
# Points of the plot beside those, of the first type, one run each.
SWEEP = os.environ.get("SWEEP", "pp128 pp1024 pp2048 tg32@1000 tg32@2000 x1 x2 x4").split()
MODELS = os.environ.get("MODELS", os.path.join(BUILD, "bench-models"))
RESULTS = os.environ.get("RESULTS", os.path.join(os.path.dirname(os.path.abspath(__file__)), "results"))
CONCURRENT_PROMPT, CONCURRENT_GEN, PREFIX = 128, 64, 2000
START = time.monotonic()


def output(command):
    return subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, check=True, text=True).stdout


def process(command):
    """-> (seconds, most resident MiB) of a whole process"""
    with tempfile.TemporaryFile() as sink:
        begin = time.monotonic()
        child = subprocess.Popen(command, stdout=sink, stderr=sink)
        _, status, usage = os.wait4(child.pid, 0)
        seconds = time.monotonic() - begin
        child.returncode = os.waitstatus_to_exitcode(status)
    if child.returncode != 0:
        raise RuntimeError(f"{' '.join(command)} ended with {child.returncode}")
    return seconds, usage.ru_maxrss / 1024


def parse(test):
    """-> (n_prompt, n_gen, depth, n_concurrent)"""
    if test[0] == "x":
        return CONCURRENT_PROMPT, CONCURRENT_GEN, 0, int(test[1:])
    name, _, depth = test.partition("@")
    n = int(name[2:])
    return (n, 0, int(depth or 0), 1) if name[:2] == "pp" else (0, n, int(depth or 0), 1)


def ours(model, test):
    command = [OURS, "bench", "-m", model, "-t", THREADS, "-r", "1", "-o", "json"]
    if test in ("load", "mem"):
        seconds, memory = process(command + ["-p", "1", "-n", "0"] if test == "load" else command + ["-p", "512", "-n", "16"])
        return seconds if test == "load" else memory
    if test == "prefix":
        row = json.loads(output(command + ["-p", "0", "-n", "0", "-x", str(PREFIX)]))[-1]
        return row["again_sec"] / row["first_token_sec"]
    p, n, d, c = parse(test)
    if test[0] == "x":
        command += ["-p", str(p), "-n", str(n), "-c", str(c)]
        return json.loads(output(command))[-1]["avg_ts"]
    return json.loads(output(command + ["-p", str(p), "-n", str(n), "-d", str(d)]))[0]["avg_ts"]


def peer(model, test, repack):
    if test[0] == "x":
        p, n, d, c = parse(test)
        command = [os.path.abspath(PEER_BATCHED), "-m", os.path.abspath(model), "-t", THREADS, "-c", str(c * (p + n + 32)), "-b", "2048", "-ub", "512", "-npp",
                   str(p), "-ntg", str(n), "-npl", str(c)] + (["-rtr"] if repack else [])
        with tempfile.TemporaryDirectory() as folder:  # it writes its log into the working directory, its table as part of the log
            text = subprocess.run(command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=True, text=True).stdout
        rows = [line.split("|") for line in text.splitlines() if line.startswith("|")]
        if not rows:
            raise SystemExit(f"{PEER_BATCHED} printed no table; leave the test {test} out, or name another in PEER_BATCHED")
        return float(rows[-1][-2])  # S t/s, all tokens over all time
    command = [PEER, "-m", model, "-t", THREADS, "-r", "1", "-o", "json"] + (["-rtr", "1"] if repack else [])
    if test in ("load", "mem"):
        seconds, memory = process(command + ["-p", "1", "-n", "0"] if test == "load" else command + ["-p", "512", "-n", "16"])
        return seconds if test == "load" else memory
    p, n, d, c = parse(test)
    if d > 0 and n > 0:
        command += ["-p", "0", "-n", "0", "-gp", f"{d},{n}"]
    else:
        command += ["-p", str(p), "-n", str(n)] + (["-w", "0"] if p > 1024 else [])
    return json.loads(output(command))[-1]["avg_ts"]


def less_is_better(test):
    return test in ("load", "mem", "prefix")


def measure(model, test, n_runs, until):
    """-> row with our median, the peer's median or None, the ratio or None, and the samples"""
    has_peer = test != "prefix" and bool(PEER_BATCHED if test[0] == "x" else PEER)
    modes = [m for m in (False, True) if has_peer and (not m or knows_repack())]
    mode = False
    if len(modes) == 2:
        tried = {m: peer(model, test, m) for m in modes}
        mode = min(modes, key=tried.get) if less_is_better(test) else max(modes, key=tried.get)
    mine, theirs = [], []
    for run in range(n_runs):
        if run > 0 and time.monotonic() > until:
            break
        if has_peer:
            theirs.append(peer(model, test, mode))
        mine.append(ours(model, test))
    row = {"test": test, "ours": statistics.median(mine), "peer": None, "ratio": None, "repack": mode, "samples": {"ours": mine}}
    if has_peer:
        row["peer"] = statistics.median(theirs)
        row["ratio"] = statistics.median(a / b for a, b in zip(mine, theirs))
        row["samples"]["peer"] = theirs
    return row


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


def record(rows):
    commit = output(["git", "rev-parse", "--short", "HEAD"]).strip()
    stem = os.path.join(RESULTS, f"{datetime.date.today().isoformat()}-{commit}")
    facts = {"machine": machine(), "commit": commit, "threads": THREADS, "runs": RUNS, "peer": os.path.basename(PEER), "load_average": os.getloadavg(), "rows": rows}
    with open(stem + ".json", "w", encoding="utf-8") as f:
        json.dump(facts, f, indent=1)
    with open(stem + ".md", "w", encoding="utf-8") as f:
        f.write(f"# {commit}, {datetime.date.today().isoformat()}\n\n{machine()}, {THREADS} threads, medians of {RUNS} runs in turns"
                f" (fewer where the samples in the JSON file say so). The last rows (load, mem, prefix): less is better.\n\n")
        f.write("| type | test | unit | ours | peer | ratio |\n| --- | --- | --- | ---: | ---: | ---: |\n")
        for r in rows:
            f.write(f"| {r['type']} | {r['test']} | {unit(r['test'])} | {figure(r, r['ours'])} | "
                    + (f"{figure(r, r['peer'])}{' (rtr)' if r['repack'] else ''} | {r['ratio']:.2f} |\n" if r["peer"] else "– | – |\n"))
    with open(stem + ".svg", "w", encoding="utf-8") as f:
        f.write(svg(rows))
    return stem


def main():
    global START
    os.makedirs(MODELS, exist_ok=True)
    os.makedirs(RESULTS, exist_ok=True)
    models = {}
    for kind in TYPES:
        models[kind] = os.path.join(MODELS, f"1b-{kind}.gguf")
        if not os.path.exists(models[kind]):
            subprocess.run([OURS, "synth", "--arch", "llama", "--preset", "1b", "--type", kind, "-o", models[kind]], check=True)
    START = time.monotonic()
    plan = [(TYPES[0], t) for t in TESTS + MORE] + [(kind, t) for kind in TYPES[1:] for t in TESTS]
    plan += [(TYPES[0], t) for t in SWEEP]
    rows = []
    for i, (kind, test) in enumerate(plan):
        # What is left, shared by the rows that are left; long ones may take three shares.
        left = START + BUDGET - time.monotonic()
        share = left / (len(plan) - i) * (3 if test in ("pp3500", "tg32@4000", "x8") else 1)
        row = {"type": kind, **measure(models[kind], test, 1 if i >= len(plan) - len(SWEEP) else RUNS, time.monotonic() + share)}
        rows.append(row)
        print(f"{kind:8} {test:10} ours {figure(row, row['ours']):>9}"
              + (f"  peer {figure(row, row['peer']):>9}  ratio {row['ratio']:.2f}" if row["peer"] else "")
              + f"  {unit(test)}, {len(row['samples']['ours'])} runs", flush=True)
        record(rows)
    print(f"wrote {record(rows)}.md, .json and .svg in {time.monotonic() - START:.0f} s")


if __name__ == "__main__":
    main()
