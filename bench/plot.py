"""Draws the rows of a benchmark's record as SVG: tokens per second over the length of the prompt, the depth at which tokens
are generated, and the number of requests at once, ours and the peer's, of the first type; below, every other row as bars.

    python3 bench/plot.py RECORD.json > RECORD.svg
"""

import json
import re
import sys

OURS, PEER = "#2563eb", "#9ca3af"
WIDTH, PANEL, HEIGHT, MARGIN = 960, 280, 190, 44
PANELS = (
    (r"pp(\d+)$", "prompt of so many tokens"),
    (r"tg\d+(?:@(\d+))?$", "generation at this depth"),
    (r"x(\d+)$", "requests at once"),
)


def points(rows, pattern):
    """-> [(x, ours, peer or None)] in the order of x"""
    found = {}
    for row in rows:
        match = re.match(pattern, row["test"])
        if match:
            found[int(match.group(1) or 0)] = (row["ours"], row["peer"])
    return [(x, *found[x]) for x in sorted(found)]


def panel(title, data, left, top):
    most = max(v for _, *values in data for v in values if v) * 1.08
    last = max(x for x, *_ in data) or 1

    def at(x, v):
        return f"{left + x / last * (PANEL - 60):.1f},{top + HEIGHT - v / most * HEIGHT:.1f}"

    parts = [f'<text x="{left}" y="{top - 10}" font-weight="bold">{title}</text>',
             f'<path d="M{left},{top}V{top + HEIGHT}H{left + PANEL - 60}" fill="none" stroke="#374151"/>']
    for tenth in (0, 0.5, 1):
        v = most / 1.08 * tenth
        parts.append(f'<text x="{left - 6}" y="{top + HEIGHT - v / most * HEIGHT + 4:.1f}" text-anchor="end">{v:.0f}</text>')
    for i, (x, *_) in enumerate(data):
        # Labels that would touch are left out.
        if i + 1 < len(data) and (data[i + 1][0] - x) / last < 0.12 and i > 0:
            continue
        parts.append(f'<text x="{left + x / last * (PANEL - 60):.1f}" y="{top + HEIGHT + 15}" text-anchor="middle">{x}</text>')
    for which, colour in ((1, OURS), (2, PEER)):
        line = [at(p[0], p[which]) for p in data if p[which]]
        if not line:
            continue
        parts.append(f'<polyline points="{" ".join(line)}" fill="none" stroke="{colour}" stroke-width="2"/>')
        parts += [f'<circle cx="{c.split(",")[0]}" cy="{c.split(",")[1]}" r="3" fill="{colour}"/>' for c in line]
    return parts


def unit(test):
    return {"load": "s", "mem": "MiB", "prefix": "second / first"}.get(test, "tok/s")


def figure(row, value):
    return f"{value:.3f}" if row["test"] in ("load", "prefix") else f"{value:.1f}"


def bars(rows, top):
    parts, y, left = [], top, 210
    for row in rows:
        most = max(row["ours"], row["peer"] or 0.0)
        parts.append(f'<text x="{left - 8}" y="{y + 11}" text-anchor="end">{row["type"]} {row["test"]}, {unit(row["test"])}</text>')
        for key, colour in (("ours", OURS), ("peer", PEER)):
            if row[key]:
                w = (WIDTH - left - 120) * row[key] / most
                parts.append(f'<rect x="{left}" y="{y}" width="{w:.1f}" height="12" fill="{colour}"/>')
                parts.append(f'<text x="{left + w + 6:.1f}" y="{y + 10}">{figure(row, row[key])}</text>')
                y += 14
        y += 10
    return parts, y


def svg(rows):
    """-> the picture of rows [{type, test, ours, peer}]"""
    first = [r for r in rows if r["type"] == rows[0]["type"]]
    parts, left, drawn = [], MARGIN, set()
    for pattern, title in PANELS:
        data = points(first, pattern)
        if len(data) < 2:
            continue
        parts += panel(f"tokens/s, {title}", data, left, 50)
        drawn |= {r["test"] for r in first if re.match(pattern, r["test"])}
        left += PANEL + 20
    rest = [r for r in rows if r["type"] != rows[0]["type"] or r["test"] not in drawn]
    more, bottom = bars(rest, 50 + HEIGHT + 40 if drawn else 40)
    head = f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{bottom}" font-family="sans-serif" font-size="11">'
    note = f'<text x="8" y="16">{rows[0]["type"]}: blue mistral-runner, grey peer. Bars of load, mem and prefix: less is better.</text>'
    return "\n".join([head, f'<rect width="{WIDTH}" height="{bottom}" fill="white"/>', note, *parts, *more, "</svg>\n"])


if __name__ == "__main__":
    with open(sys.argv[1], encoding="utf-8") as f:
        sys.stdout.write(svg(json.load(f)["rows"]))
