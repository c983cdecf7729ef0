#!/usr/bin/env python3
"""Measures our VCDIFF beside `xdelta3 -9 -D` on the corpora of `benches/corpus.py`, and prints tables.

PROGRAM is the built `benches/vcdiff.rs`: `cargo bench --bench vcdiff --no-run` says where it is. Each pair of versions
is encoded by both programs in turns, the least of the CPU seconds (user and system) of a few rounds counts. Both read
two files and write one; neither proves or hashes what it wrote: "prove" is what decoding our delta once more takes,
as `put` does before it stores one. Stock xdelta3 decodes ours, and we decode its; each must give the target.

Ends with 0 only if every file came back and the limits below held. Held-out histories count in no sum and no mean.
"""

import argparse
import collections
import contextlib
import filecmp
import io
import json
import math
import os
import pathlib
import sys
import tempfile

from codec import group, pair

# ---- the limits, from issue 5 ---------------------------------------------------------------------

RATIO_MAX = 1.02       # bytes of each corpus / those of xdelta3 -9 -D
MEAN_RATIO_MAX = 0.95  # the geometric mean of them
CPU_RATIO_MAX = 0.5    # CPU seconds of all corpora / those of xdelta3


# ---- measuring ------------------------------------------------------------------------------------

Row = collections.namedtuple("Row", "corpus mb ours theirs encode_s theirs_s prove_s")


def run(*command):
    """Runs a program to its end and returns its CPU seconds."""
    pid = os.posix_spawnp(command[0], [str(word) for word in command], os.environ)
    _, status, used = os.wait4(pid, 0)
    if status != 0:
        sys.exit(f"vcdiff: {' '.join(map(str, command))} ended with {status}")
    return used.ru_utime + used.ru_stime


def measured(arguments, program, corpus, base, target):
    """Measures a pair, unless the rows that are kept have it already."""
    kept = {}
    if arguments.rows and arguments.rows.exists():
        kept = {fields[0]: Row(*fields) for fields in map(json.loads, arguments.rows.read_text().splitlines())}
    if corpus not in kept:
        kept[corpus] = measure(program, corpus, base, target, arguments.rounds)
        if arguments.rows:
            with open(arguments.rows, "a") as file:
                file.write(json.dumps(kept[corpus]) + "\n")
    return kept[corpus]


def must_be(target, found, what):
    if not filecmp.cmp(target, found, shallow=False):
        sys.exit(f"vcdiff: {what}: other bytes came back of {target}")


def measure(program, corpus, base, target, rounds):
    print("measuring", corpus, file=sys.stderr)
    with tempfile.TemporaryDirectory() as folder:
        ours, theirs, back = (pathlib.Path(folder, name) for name in ["ours", "theirs", "back"])
        encode_s, theirs_s = math.inf, math.inf
        for _ in range(rounds):
            encode_s = min(encode_s, run(program, "encode", base, target, ours))
            theirs_s = min(theirs_s, run("xdelta3", "-e", "-9", "-D", "-f", "-s", base, target, theirs))
        prove_s = run(program, "decode", base, ours, back)
        must_be(target, back, "ours by ours")
        run(program, "decode", base, theirs, back)
        must_be(target, back, "theirs by ours")
        run("xdelta3", "-d", "-D", "-f", "-s", base, ours, back)
        must_be(target, back, "ours by xdelta3")
        sizes = ours.stat().st_size, theirs.stat().st_size
    return Row(corpus, target.stat().st_size / 1e6, *sizes, encode_s, theirs_s, prove_s)


# ---- tables ---------------------------------------------------------------------------------------

def mean_ratio(rows):
    return math.exp(sum(math.log(row.ours / row.theirs) for row in rows) / len(rows))


def total(rows):
    return Row("**sum**", *(sum(column) for column in list(zip(*rows))[1:]))


def print_row(row):
    print(f"| {row.corpus} | {row.mb:.1f} | {row.ours:,} | {row.theirs:,} | {row.ours / row.theirs:.3f} "
          f"| {row.encode_s:.2f} | {row.theirs_s:.2f} | {row.encode_s / row.theirs_s:.2f} "
          f"| {row.prove_s:.2f} | {(row.encode_s + row.prove_s) / row.theirs_s:.2f} |")


def print_table(title, rows):
    print(f"\n### {title}, version 3 → 4\n")
    print("| corpus | MB | delta bytes | xdelta3 -9 | × | CPU s | xdelta3 -9 | × | prove | × with it |")
    print("| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |")
    for row in [*rows, total(rows)]:
        print_row(row)
    over = [row.corpus for row in rows if row.encode_s > CPU_RATIO_MAX * row.theirs_s]
    print(f"\nGeometric mean {mean_ratio(rows):.3f} × the bytes of xdelta3. Its CPU seconds are limited in the sum; alone, "
          f"{len(over)} of {len(rows)} take more than {CPU_RATIO_MAX} × them: {', '.join(over) or 'none'}.")


def failures(rows):
    """The limits that do not hold."""
    for row in rows:
        if row.ours > RATIO_MAX * row.theirs:
            yield f"{row.corpus}: {row.ours / row.theirs:.3f} x the bytes (at most {RATIO_MAX})"
    if mean_ratio(rows) > MEAN_RATIO_MAX:
        yield f"geometric mean: {mean_ratio(rows):.3f} x the bytes (at most {MEAN_RATIO_MAX})"
    if total(rows).encode_s > CPU_RATIO_MAX * total(rows).theirs_s:
        yield f"sum: {total(rows).encode_s / total(rows).theirs_s:.2f} x the CPU seconds (at most {CPU_RATIO_MAX})"


TITLES = {"corpora": "The corpora", "heldout": "Held-out histories"}
MARK = "<!-- What follows is written by benches/vcdiff.py --into. -->\n"


def fill(path, tables):
    """Replaces what is between the mark in a document and the next comment."""
    before, after = path.read_text().split(MARK)
    rest = after[after.index("<!--"):] if "<!--" in after else ""
    path.write_text(f"{before}{MARK}{tables}\n{rest}")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("program", type=pathlib.Path, help="the built benches/vcdiff.rs")
    parser.add_argument("corpora", type=pathlib.Path, help="where benches/corpus.py wrote to")
    parser.add_argument("names", nargs="*", help="these corpora only")
    parser.add_argument("--rounds", type=int, default=3, help="of which the least CPU seconds count (default: 3)")
    parser.add_argument("--rows", type=pathlib.Path, help="keep what is measured there; do not measure it again")
    parser.add_argument("--into", type=pathlib.Path, help="write the tables into this document, too")
    arguments = parser.parse_intermixed_args()
    program = arguments.program.resolve(strict=True)
    names = arguments.names or sorted(path.name for path in arguments.corpora.iterdir() if group(path.name) in TITLES)
    pairs = {name: pair(arguments.corpora, name, "3-4") for name in names}
    rows = [measured(arguments, program, name, *files) for name, files in pairs.items() if files]
    tables, failed = io.StringIO(), []
    with contextlib.redirect_stdout(tables):
        for kind, title in TITLES.items():
            if of_kind := [row for row in rows if group(row.corpus) == kind]:
                print_table(title, of_kind)
                failed += failures(of_kind)
    print(tables.getvalue())
    for failure in failed:
        print(f"- FAIL {failure}")
    if arguments.into:
        fill(arguments.into, tables.getvalue())
    sys.exit(bool(failed))


if __name__ == "__main__":
    main()
