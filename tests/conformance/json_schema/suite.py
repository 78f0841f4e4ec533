"""Answers held to JSON Schemas, against the JSON-Schema-Test-Suite and an independent validator.

usage: suite.py RUNNER [--suite FOLDER] [--samples N] [--more N]

Needs the PyPI package jsonschema; the suite stands in its source distribution (json/tests/draft2020-12), which is fetched by
name with pip where --suite does not say where it is. --more adds schemas from a seeded generator of the kind that callers
write: objects with properties, arrays, choices, bounds, formats, references.

For each schema that the runner takes: no invalid instance of the suite may be accepted, and every answer of the built-in model
at temperature 1.5 has to parse and validate (an answer that was cut at its limit does not count). Ends with a table by
keyword file, and exits with 1 when anything was wrong. What is refused is counted by the reason that was given."""

import argparse
import collections
import glob
import json
import os
import random
import subprocess
import sys
import tarfile
import tempfile

import jsonschema

HELD = ["date", "time", "date-time", "uuid", "email", "ipv4", "ipv6", "hostname", "uri"]  # some want further packages: jsonschema[format]
FORMATS = jsonschema.FormatChecker([])
FORMATS.checkers = {k: c for k, c in jsonschema.Draft202012Validator.FORMAT_CHECKER.checkers.items() if k in HELD}


def fetch_suite(folder):
    subprocess.run([sys.executable, "-m", "pip", "download", "-q", "--no-deps", "--no-binary", "jsonschema", "-d", folder,
                    "jsonschema"], check=True)
    with tarfile.open(glob.glob(folder + "/jsonschema-*.tar.gz")[0]) as tar:
        tar.extractall(folder, filter="data")
    return glob.glob(folder + "/jsonschema-*/json/tests/draft2020-12")[0]


def random_schema(rng, depth=0):
    kind = rng.choice(["string", "integer", "number", "boolean", "enum", "object", "array", "anyOf"] if depth < 3 else
                      ["string", "integer", "boolean", "enum"])
    word = lambda: "".join(rng.choice("abcdefghijklmnopqrstuvwxyz_é") for _ in range(rng.randint(1, 8)))
    if kind == "string":
        return {"type": "string", **rng.choice([{}, {"minLength": rng.randint(0, 5)}, {"maxLength": rng.randint(1, 20)},
                {"pattern": rng.choice(["^[a-z]{2,5}$", "[0-9]+", "^(foo|bar)-\\d{3}$", "^\\S+@\\S+$", "^[^aeiou]*$"])},
                {"format": rng.choice(["date", "date-time", "time", "uuid", "ipv4", "ipv6", "email", "hostname"])}])}
    if kind in ("integer", "number"):
        a = rng.randint(-1000, 1000)
        return {"type": kind, **rng.choice([{}, {"minimum": a}, {"maximum": a}, {"minimum": a, "maximum": a + rng.randint(0, 500)},
                {"exclusiveMinimum": a}, {"minimum": 0, "maximum": 1}] + ([{"multipleOf": rng.randint(1, 12)}] if kind == "integer" else []))}
    if kind == "boolean":
        return {"type": rng.choice(["boolean", "null", ["boolean", "null"]])}
    if kind == "enum":
        return {"enum": [rng.choice([word(), rng.randint(0, 99), None, True]) for _ in range(rng.randint(1, 4))]}
    if kind == "array":
        low = rng.randint(0, 2)
        return {"type": "array", "items": random_schema(rng, depth + 1), **rng.choice([{"maxItems": low + rng.randint(1, 4)},
                {"minItems": low, "maxItems": low + 3}, {"prefixItems": [random_schema(rng, depth + 1)], "maxItems": 3}])}
    if kind == "anyOf":
        return {"anyOf": [random_schema(rng, depth + 1) for _ in range(rng.randint(1, 3))]}
    names = [word() for _ in range(rng.randint(0, 5))]
    return {"type": "object", "properties": {n: random_schema(rng, depth + 1) for n in names},
            "required": [n for n in dict.fromkeys(names) if rng.random() < 0.7],
            **rng.choice([{"additionalProperties": False}, {"additionalProperties": False}, {}])}


def cases(suite, more):
    """(file, description, schema, [(instance, valid)])"""
    for path in sorted(glob.glob(suite + "/*.json") + glob.glob(suite + "/optional/ecma-regex.json")):
        for group in json.load(open(path)):
            yield os.path.basename(path)[:-5], group["description"], group["schema"], [(t["data"], t["valid"]) for t in group["tests"]]
    for i in range(more):
        yield "generated", str(i), random_schema(random.Random(i)), []


def run(arguments, text=""):
    p = subprocess.run(arguments, input=text, capture_output=True, text=True, timeout=600)
    return p.returncode, p.stdout.splitlines(), p.stderr.strip()


def main():
    ap = argparse.ArgumentParser()
    ap.add_argument("runner")
    ap.add_argument("--suite")
    ap.add_argument("--samples", type=int, default=20)
    ap.add_argument("--more", type=int, default=200)
    a = ap.parse_args()
    rows = collections.defaultdict(lambda: collections.Counter())
    reasons, wrong = collections.Counter(), []
    with tempfile.TemporaryDirectory() as folder:
        suite = a.suite or fetch_suite(folder)
        path = os.path.join(folder, "schema.json")
        for file, what, schema, tests in cases(suite, a.more):
            row = rows[file]
            row["schemas"] += 1
            json.dump(schema, open(path, "w"))
            dumped = [json.dumps(d, separators=(",", ":"), ensure_ascii=False) for d, _ in tests]
            code, said, err = run([a.runner, "schema", path], "\n".join(dumped) + "\n" if dumped else "")
            if code != 0:
                row["refused"] += 1
                reasons[err.split(": ", 2)[-1][:90]] += 1
                continue
            for (data, valid), answer, text in zip(tests, said, dumped):
                row["valid taken" if valid and answer == "yes" else "valid left out" if valid else "invalid rejected"] += 1
                if not valid and answer == "yes":
                    wrong.append(f"{file}: {what}: accepts {text} for {json.dumps(schema)}")
            validator = jsonschema.Draft202012Validator(schema, format_checker=FORMATS)
            code, answers, err = run([a.runner, "schema", "--samples", str(a.samples), "--temp", "1.5", "--seed", "1", path])
            if code != 0:
                wrong.append(f"{file}: {what}: {err}")
            for answer in answers:
                if answer.endswith(" …"):
                    row["cut"] += 1
                    continue
                try:
                    validator.validate(json.loads(answer))
                    row["samples"] += 1
                except Exception as e:  # whatever the validator or the parser says is a failure of ours
                    wrong.append(f"{file}: {what}: {answer!r} for {json.dumps(schema)}: {str(e).splitlines()[0]}")
    columns = ["schemas", "refused", "invalid rejected", "valid taken", "valid left out", "samples", "cut"]
    print(f"| {'file':<26} | " + " | ".join(columns) + " |\n|---|" + "---|" * len(columns))
    for file, row in sorted(rows.items()):
        print(f"| {file:<26} | " + " | ".join(str(row[c]) for c in columns) + " |")
    total = sum(rows.values(), collections.Counter())
    print("| all | " + " | ".join(str(total[c]) for c in columns) + " |\n\nrefused because:")
    for reason, n in reasons.most_common(25):
        print(f"{n:5} {reason}")
    print(f"\n{len(wrong)} wrong")
    for line in wrong[:40]:
        print(" ", line)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
