#!/usr/bin/env python3
"""The table of the quantizers' errors beside the reference's, from a run of the unit test (make_golden.py has the reference).

    table.py [build/tests/test_dtype]
"""

import os
import pathlib
import re
import subprocess
import sys

test = sys.argv[1] if len(sys.argv) > 1 else pathlib.Path(__file__).parents[3] / "build/tests/test_dtype"
run = subprocess.run([test], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                     env={**os.environ, "CMOCKA_MESSAGE_OUTPUT": "stdout"})
rows = {}
for name, kind, ratio in re.findall(r"^(\S+) +(normal|heavy|shifted) +error ([0-9.]+) of the reference's", run.stdout, re.M):
    rows.setdefault(name, {})[kind] = ratio
print("| type | normal | heavy tails | shifted |\n| --- | --- | --- | --- |")
for name, row in rows.items():
    print(f"| {name} | {row['normal']} | {row['heavy']} | {row['shifted']} |")
sys.exit(run.returncode)
