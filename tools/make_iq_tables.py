#!/usr/bin/env python3
"""Writes src/compute/iq_tables.c: the codebooks of the IQ tensor types.

The codebooks are constants of the GGUF formats, chosen once by search and published with them; they follow from no formula.
This script takes them from the PyPI package `gguf` (needed only here) and lists each entry as one 16-bit number of small
indices: 2 bits for each of 8 values, or 4 bits for each of 4.

    python3 tools/make_iq_tables.py > src/compute/iq_tables.c
"""

import gguf.quants as quants

PER_LINE = 14

# name in C, decoder class, values in an entry
GRIDS = (
    ("mr_iq2_xxs_grid", quants.IQ2_XXS, 8),
    ("mr_iq2_xs_grid", quants.IQ2_XS, 8),
    ("mr_iq2_s_grid", quants.IQ2_S, 8),
    ("mr_iq1_grid", quants.IQ1_S, 8),
    ("mr_iq3_xxs_grid", quants.IQ3_XXS, 4),
    ("mr_iq3_s_grid", quants.IQ3_S, 4),
)


def entries(decoder, n_values):
    """Each row of the decoder's grid as a number; value j, an index into grid_map, sits in bits j * 16 / n_values."""
    decoder.init_grid()
    rows = decoder.grid.reshape(decoder.grid_shape)
    levels = {float(v): i for i, v in enumerate(decoder.grid_map)}
    width = 16 // n_values
    return [sum(levels[float(v)] << (width * j) for j, v in enumerate(row)) for row in rows]


def c_array(name, numbers):
    lines = [f"const uint16_t {name}[{len(numbers)}] = {{"]
    for i in range(0, len(numbers), PER_LINE):
        lines.append("    " + ", ".join(f"0x{n:04x}" for n in numbers[i:i + PER_LINE]) + ",")
    return "\n".join(lines + ["};"])


def main():
    print("/* Codebooks of the IQ tensor types; written by tools/make_iq_tables.py. */")
    print('#include "compute/iq_tables.h"\n')
    print("/* clang-format off */")
    print("\n\n".join(c_array(name, entries(decoder, n)) for name, decoder, n in GRIDS))
    print("/* clang-format on */")


if __name__ == "__main__":
    main()
