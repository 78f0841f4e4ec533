#!/usr/bin/env python3
"""Prints, as Markdown, the table of architectures and the largest differences of their logits to the reference, from a
run of the test; or writes it into the README, between the two comments that mark its place:

    python3 tests/conformance/logits/table.py BUILD/tests/test_logits [README.md]
"""

import collections
import os
import subprocess
import sys


BEGIN, END = "<!-- architectures: tests/conformance/logits/table.py -->", "<!-- end of architectures -->"


def main():
    if len(sys.argv) not in (2, 3):
        sys.exit(__doc__)
    environment = {key: value for key, value in os.environ.items() if key != "MR_GOLDEN"}
    run = subprocess.run([sys.argv[1]], capture_output=True, text=True, env=environment)
    rows = collections.defaultdict(list)
    for line in (run.stdout + run.stderr).splitlines():
        if line.startswith("golden | "):
            name, arch, reference, prefill, steps, allowed = line.split(" | ")[1:]
            rows[arch, allowed].append((name, reference, float(prefill), float(steps)))
    if run.returncode != 0:
        sys.exit(f"{sys.argv[1]} failed:\n{run.stdout}{run.stderr}")
    table = ["| Architecture | Golden models | Reference | Prefill | Step by step | Allowed |", "|---|---|---|---|---|---|"]
    for (arch, allowed), models in sorted(rows.items()):
        names = ", ".join(name for name, *_ in models)
        references = ", ".join(f"`{r}`" for r in dict.fromkeys(reference for _, reference, *_ in models))
        worst = [max(model[i] for model in models) for i in (2, 3)]
        table.append(f"| `{arch}` | {names} | {references} | {worst[0]:.1e} | {worst[1]:.1e} | {float(allowed):g} |")
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
