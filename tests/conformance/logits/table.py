#!/usr/bin/env python3
"""Prints, as Markdown, the table of architectures and the largest differences of their logits to the reference, from a
run of the test:

    python3 tests/conformance/logits/table.py BUILD/tests/test_logits
"""

import collections
import os
import subprocess
import sys


def main():
    if len(sys.argv) != 2:
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
    print("| Architecture | Golden models | Reference | Prefill | Step by step | Allowed |")
    print("|---|---|---|---|---|---|")
    for (arch, allowed), models in sorted(rows.items()):
        names = ", ".join(name for name, *_ in models)
        references = ", ".join(f"`{r}`" for r in dict.fromkeys(reference for _, reference, *_ in models))
        worst = [max(model[i] for model in models) for i in (2, 3)]
        print(f"| `{arch}` | {names} | {references} | {worst[0]:.1e} | {worst[1]:.1e} | {float(allowed):g} |")


if __name__ == "__main__":
    main()
