#!/usr/bin/env python3
"""Prints, as Markdown, the table of architectures and the largest differences of their logits to the reference, from a
run of the tests of GGUF files and of folders; or writes it into the README, between the two comments that mark its place:

    python3 tests/conformance/logits/table.py BUILD/tests [README.md]
"""

import collections
import json
import os
import subprocess
import sys


HERE = os.path.dirname(os.path.abspath(__file__))
BEGIN, END = "<!-- architectures: tests/conformance/logits/table.py -->", "<!-- end of architectures -->"


def run(test, mark):
    """The fields of the lines that begin with the mark."""
    environment = {key: value for key, value in os.environ.items() if key != "MR_GOLDEN"}
    done = subprocess.run([os.path.join(sys.argv[1], test)], capture_output=True, text=True, env=environment)
    if done.returncode != 0:
        sys.exit(f"{test} failed:\n{done.stdout}{done.stderr}")
    return [line.split(" | ")[1:] for line in (done.stdout + done.stderr).splitlines() if line.startswith(mark + " | ")]


def model_type(folder):
    with open(os.path.join(HERE, "..", "hf", folder, "config.json"), encoding="utf-8") as file:
        config = json.load(file)
    return config["model_type"].removesuffix("_text")


def main():
    if len(sys.argv) not in (2, 3):
        sys.exit(__doc__)
    files, folders = collections.defaultdict(list), collections.defaultdict(list)
    for name, arch, reference, prefill, steps, allowed in run("test_logits", "golden"):
        files[arch, float(allowed)].append((name, reference, float(prefill), float(steps)))
    for name, arch, prefill, steps, allowed in run("test_hf_model", "folder"):
        rounded = float(allowed) > 0.01
        folders[arch, rounded].append((model_type(name), max(float(prefill), float(steps))))
    table = ["| Architecture | Golden models | Reference | Prefill | Step by step | Allowed | Folders (`model_type`) | Both |",
             "|---|---|---|---|---|---|---|---|"]
    for (arch, allowed), models in sorted(files.items()):
        names = ", ".join(name for name, *_ in models)
        references = ", ".join(f"`{r}`" for r in dict.fromkeys(reference for _, reference, *_ in models))
        worst = [max(model[i] for model in models) for i in (2, 3)]
        found = folders.get((arch, allowed > 0.01), [])
        types = ", ".join(f"`{t}`" for t in sorted(set(t for t, _ in found))) or "–"
        by_folder = f"{max(d for _, d in found):.1e}" if found else ""
        table.append(f"| `{arch}` | {names} | {references} | {worst[0]:.1e} | {worst[1]:.1e} | {allowed:g} | {types} | {by_folder} |")
    if len(sys.argv) == 2:
        print("\n".join(table))
        return
    with open(sys.argv[2], encoding="utf-8") as file:
        before, rest = file.read().split(BEGIN)
    behind = rest.split(END)[1]
    with open(sys.argv[2], "w", encoding="utf-8") as file:
        file.write(before + BEGIN + "\n" + "\n".join(table) + "\n" + END + behind)


if __name__ == "__main__":
    main()
