#!/usr/bin/env python3
"""Measures the delta engine on the corpora of `benches/corpus.py` and prints the tables of `docs/benchmarks.md`.

PROGRAM is the built `benches/codec.rs`: `cargo bench --bench codec --no-run` says where it is. Every file is encoded,
decoded and compared, one after the other, in one thread. Seconds are CPU seconds. "encode" counts the proof, which is
a decode; "MiB" is the largest memory beyond mapped files. Ends with 0 only if every file came back and every limit in
the tables below held. A limit whose corpus or peer was not measured is listed as open and does not fail.

The held-out and the repacked histories stand in tables of their own: no sum, mean or share counts them.
"""

import argparse
import collections
import contextlib
import io
import json
import math
import pathlib
import statistics
import subprocess
import sys

# ---- the limits, from issue 4 ---------------------------------------------------------------------

DEFLATE = ["whl_cryptography", "whl_numpy", "whl_botocore", "whl_transformers", "jar_closure", "xlsx", "docx",
           "tgz_typescript", "crate_awslc", "png"]
UNCOMPRESSED = ["exe_ruff", "exe_esbuild", "so_numpy", "exe_node", "tar_typescript", "debtar_kernel", "csv", "sqlite",
                "bmp", "st_full", "st_layer", "st_bf16"]
COMPRESSED = ["tiff_lzw", "psd", "jpeg", "deb_kernel", "parquet", "parquet_zstd"]  # by something else than deflate
FLAT = UNCOMPRESSED + COMPRESSED
CORPORA = DEFLATE + FLAT

# Of all 28 corpora: mean is the geometric mean of delta bytes / those of xdelta3 -9 -D; the rest are % of full bytes.
MEAN_MAX = {("default", "3-4"): 0.19, ("max", "3-4"): 0.178}
SUM_MAX_PERCENT = {("default", "3-4"): 11.3, ("max", "3-4"): 11.05}
DEFLATE_MAX_PERCENT = {("default", "3-4"): 2.1, ("default", "1-4"): 4.2}

# Each corpus against peers: times the peer's bytes, plus some. "best" is the smaller of xdelta3 and HDiffPatch.
PEER_SLACK_BYTES = 16 << 10
PEER_MAX_RATIO = {("default", "3-4"): ("xdelta3", 1.05), ("max", "3-4"): ("best", 1.25)}
BEST_SUM_MAX_RATIO = {("max", "3-4"): 1.02}

# Single corpora, % of the full file, effort default, from version 3 to 4.
CORPUS_MAX_PERCENT = {
    "whl_numpy": 4.0, "whl_cryptography": 14.5, "whl_botocore": 1.1, "xlsx": 3.8, "docx": 0.06, "png": 0.03,
    "tgz_typescript": 0.05, "crate_awslc": 0.18, "repacked_7zip": 5.0, "repacked_zopfli": 4.8, "exe_ruff": 8.5,
    "exe_esbuild": 0.65, "so_numpy": 0.45, "exe_node": 3.2, "sqlite": 3.0, "debtar_kernel": 4.5, "csv": 1.0,
    "st_full": 42.0,
}

# The same at effort max: what the study of plain deltas reached, % of the full file, and times that.
STUDIED_PERCENT = {
    "exe_ruff": 7.69, "exe_esbuild": 0.482, "so_numpy": 0.325, "exe_node": 2.92, "debtar_kernel": 4.15, "sqlite": 2.67,
    "csv": 1.00, "psd": 0.066, "st_bf16": 1.48, "parquet": 49.2, "tar_typescript": 0.0051,
}
STUDIED_MAX_RATIO = 1.03

# MB of the object per CPU second of one core, effort default, from version 3 to 4.
UNCOMPRESSED_ENCODE_MIN = {"median": 40, "any": 15}
FLAT_RESTORE_MIN = {"median": 250, "any": 80}
DEFLATE_SUM_MIN = {"encode": 10, "restore": 35}
# Of single corpora at effort max: encode and restore.
MAX_EFFORT_MIN = {
    "exe_ruff": (6, 20), "debtar_kernel": (4, 20), "exe_node": (13, 50),
    "sqlite": (12, 50), "csv": (17, 90), "st_bf16": (20, 90), "exe_esbuild": (None, 90), "so_numpy": (None, 90),
    "tar_typescript": (None, 200), "psd": (None, 200),
}
MEMORY_MAX_MIB = 512

# `hdiffz -m -c-lzma2-9`, % of the full file from version 3 to 4, as measured once; it is not run here.
HDIFFPATCH_PERCENT = {
    "whl_cryptography": 93.2, "whl_numpy": 69.3, "whl_botocore": 12.5, "whl_transformers": 1.41, "jar_closure": 0.90,
    "xlsx": 82.2, "docx": 2.30, "tgz_typescript": 90.8, "crate_awslc": 86.0, "png": 4.36, "tiff_lzw": 0.36,
    "bmp": 0.003, "psd": 2.28, "jpeg": 6.86, "exe_ruff": 10.3, "exe_esbuild": 1.29, "so_numpy": 0.89, "exe_node": 2.62,
    "tar_typescript": 0.004, "debtar_kernel": 3.90, "deb_kernel": 99.5, "csv": 0.80, "parquet": 49.9,
    "parquet_zstd": 79.3, "sqlite": 2.85, "st_full": 91.1, "st_layer": 7.21, "st_bf16": 1.65,
}


# ---- measuring ------------------------------------------------------------------------------------

class Row(collections.namedtuple("Row", "corpus step effort size delta encode_s decode_s encode_mib decode_mib exact")):
    """One pair of versions, encoded and decoded once."""

    percent = property(lambda self: 100 * self.delta / self.size)
    mib = property(lambda self: max(self.encode_mib, self.decode_mib))
    seconds_to_encode = property(lambda self: self.encode_s + self.decode_s)  # every encode is proven by a decode
    encode_speed = property(lambda self: speed(self.size, self.seconds_to_encode))
    restore_speed = property(lambda self: speed(self.size, self.decode_s))


def speed(size, seconds):
    return size / 1e6 / max(seconds, 1e-4)


def version(corpora, corpus, number):
    return next((corpora / corpus).glob(f"v{number}.*"), None)


def pair(corpora, corpus, step):
    """Returns the two files of a step such as "3-4", or None where one is missing."""
    files = [version(corpora, corpus, number) for number in step.split("-")]
    return files if all(files) else None


def measure(program, files, corpus, step, effort):
    result = subprocess.run([program, effort, *files], stdout=subprocess.PIPE, text=True)
    if result.returncode != 0:
        sys.exit(f"codec: {corpus} {step} at {effort} ended with {result.returncode}")
    found = json.loads(result.stdout)
    return Row(corpus, step, effort, *(found[field] for field in Row._fields[3:]))


class Rows:
    """What was measured, kept in a file if one is named, so that a broken run goes on where it stopped."""

    def __init__(self, path):
        self.path, self.rows = path, {}
        if path and path.exists():
            for line in path.read_text().splitlines():
                self.add(Row(**json.loads(line)))

    def add(self, row):
        self.rows[row.corpus, row.step, row.effort] = row

    def measure(self, program, files, *key):
        if key not in self.rows:
            print("measuring", *key, file=sys.stderr)
            self.add(measure(program, files, *key))
            if self.path:
                with open(self.path, "a") as file:
                    file.write(json.dumps(self.rows[key]._asdict()) + "\n")
        return self.rows[key]


class Peers:
    """The sizes that xdelta3 needs, kept in a file beside the corpora; asked only for what is not there yet."""

    def __init__(self, corpora, run):
        self.path, self.run = corpora / "xdelta3.json", run
        self.sizes = json.loads(self.path.read_text()) if self.path.exists() else {}

    def size(self, files, corpus, step):
        base, target = files
        key = f"{corpus} {step} {base.stat().st_size} {target.stat().st_size}"
        if key not in self.sizes and self.run:
            print("xdelta3", corpus, step, file=sys.stderr)
            self.sizes[key] = xdelta3(base, target)
            self.path.write_text(json.dumps(self.sizes, indent=1, sort_keys=True) + "\n")
        return self.sizes.get(key)


def xdelta3(base, target):
    """-D: without it xdelta3 unpacks gzip files and does not give the same bytes back."""
    command = ["xdelta3", "-e", "-9", "-D", "-c", "-s", base, target]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        size = sum(len(block) for block in iter(lambda: process.stdout.read(1 << 20), b""))
    if process.returncode != 0:
        sys.exit(f"codec: xdelta3 ended with {process.returncode} on {target}")
    return size


# ---- tables ---------------------------------------------------------------------------------------

Table = collections.namedtuple("Table", "step effort rows xdelta3")


def group(name):
    """Which table a corpus stands in."""
    for prefix in ["heldout", "repacked", "big"]:
        if name.startswith(prefix):
            return prefix
    return "corpora"


def print_table(title, table):
    if not table.rows:
        return
    print(f"\n### {title}, version {table.step.replace('-', ' → ')}, effort `{table.effort}`\n")
    print("| corpus | MB | delta bytes | % | encode MB/s | restore MB/s | MiB | xdelta3 -9 % |")
    print("| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |")
    for row in table.rows:
        peer = table.xdelta3.get(row.corpus)
        print(f"| {row.corpus} | {row.size / 1e6:.1f} | {row.delta:,} | {share(row.delta, row.size)} "
              f"| {row.encode_speed:.0f} | {row.restore_speed:.0f} | {row.mib} | {share(peer, row.size)} |")
    print_sums(table)


def share(part, whole):
    if part is None:
        return "–"
    percent = 100 * part / whole
    return f"{percent:.2f}" if percent >= 0.1 else f"{percent:.2g}" if percent >= 0.001 else f"{percent:.4f}"


def print_sums(table):
    total = sum_of(table.rows)
    peers = [table.xdelta3.get(row.corpus) for row in table.rows]
    peer = None if None in peers else sum(peers)
    print(f"| **sum** | {total.size / 1e6:.1f} | {total.delta:,} | {share(total.delta, total.size)} "
          f"| {total.encode_speed:.0f} | {total.restore_speed:.0f} | {total.mib} | {share(peer, total.size)} |\n")
    line = [f"median encode {statistics.median(row.encode_speed for row in table.rows):.0f} MB/s",
            f"restore {statistics.median(row.restore_speed for row in table.rows):.0f} MB/s"]
    if (mean := mean_ratio(table)) is not None:
        line.insert(0, f"geometric mean {mean:.4f} × `xdelta3 -9`")
    if (deflate := of(table.rows, DEFLATE)):
        both = sum_of(deflate)
        line.append(f"the {len(deflate)} deflate corpora {share(both.delta, both.size)} % at "
                    f"{both.encode_speed:.0f} and {both.restore_speed:.0f} MB/s")
    print("; ".join(line) + ".")


def of(rows, names):
    return [row for row in rows if row.corpus in names]


def sum_of(rows):
    total = {field: sum(getattr(row, field) for row in rows) for field in ["size", "delta", "encode_s", "decode_s"]}
    return Row("sum", rows[0].step, rows[0].effort, **total, exact=all(row.exact for row in rows),
               encode_mib=max(row.encode_mib for row in rows), decode_mib=max(row.decode_mib for row in rows))


def mean_ratio(table):
    """The geometric mean of delta bytes to those of xdelta3, where both are known for every row."""
    if any(not table.xdelta3.get(row.corpus) for row in table.rows):
        return None
    return math.exp(statistics.mean(math.log(row.delta / table.xdelta3[row.corpus]) for row in table.rows))


# ---- limits ---------------------------------------------------------------------------------------

class Verdict:
    def __init__(self):
        self.held, self.failures, self.open = 0, [], []

    def most(self, what, value, limit, unit=""):
        self.note(what, value, limit, value is not None and value <= limit, f"{unit} (at most", unit)

    def least(self, what, value, limit, unit=" MB/s"):
        self.note(what, value, limit, value is not None and value >= limit, f"{unit} (at least", unit)

    def note(self, what, value, limit, holds, relation, unit):
        if value is None:
            self.open.append(what)
        elif holds:
            self.held += 1
        else:
            self.failures.append(f"{what}: {value:.4g}{relation} {limit:.4g}{unit})")

    def print(self):
        print(f"\n{self.held} limits hold, {len(self.failures)} fail, {len(self.open)} were not measured.\n")
        for failure in self.failures:
            print(f"- FAIL {failure}")
        for what in self.open:
            print(f"- open: {what}")


def check(table, verdict):
    """Holds one table of any corpora against the limits of its step and effort."""
    label = f"{table.step} {table.effort}"
    for row in table.rows:
        verdict.most(f"{row.corpus} {label}, memory", row.mib, MEMORY_MAX_MIB, " MiB")
    if (table.effort, table.step) == ("default", "3-4"):
        for row in table.rows:
            if row.corpus in CORPUS_MAX_PERCENT:
                verdict.most(f"{row.corpus} {label}", row.percent, CORPUS_MAX_PERCENT[row.corpus], " %")


def check_all(table, verdict):
    """Holds the table of the 28 corpora against the limits that speak of all of them."""
    key, label = (table.effort, table.step), f"{table.step} {table.effort}"
    complete = {row.corpus for row in table.rows} == set(CORPORA)
    if key in MEAN_MAX:
        verdict.most(f"mean {label}", mean_ratio(table) if complete else None, MEAN_MAX[key], " x xdelta3 -9")
    if key in SUM_MAX_PERCENT:
        verdict.most(f"sum {label}", sum_of(table.rows).percent if complete else None, SUM_MAX_PERCENT[key], " %")
    check_deflate(table, verdict)
    check_peers(table, verdict)
    if key == ("default", "3-4"):
        check_speed(table, verdict)
    if key == ("max", "3-4"):
        check_studied(table, verdict)
        check_speed_of_max(table, verdict)


def check_deflate(table, verdict):
    key, deflate = (table.effort, table.step), of(table.rows, DEFLATE)
    if key in DEFLATE_MAX_PERCENT:
        percent = sum_of(deflate).percent if len(deflate) == len(DEFLATE) else None
        verdict.most(f"deflate corpora {table.step} {table.effort}", percent, DEFLATE_MAX_PERCENT[key], " %")


def check_peers(table, verdict):
    key = (table.effort, table.step)
    if key not in PEER_MAX_RATIO:
        return
    peer, ratio = PEER_MAX_RATIO[key]
    bests = {row.corpus: best(row, table.xdelta3.get(row.corpus), peer) for row in table.rows}
    for row in table.rows:
        limit = bests[row.corpus] and ratio * bests[row.corpus] + PEER_SLACK_BYTES
        what = f"{row.corpus} {table.step} {table.effort} against {peer}"
        verdict.most(what, limit and row.delta, limit or 0, " bytes")
    if key in BEST_SUM_MAX_RATIO and None not in bests.values():
        verdict.most(f"sum {table.step} {table.effort} against the bests",
                     sum_of(table.rows).delta / sum(bests.values()), BEST_SUM_MAX_RATIO[key], " x")


def best(row, xdelta3_size, peer):
    if peer == "xdelta3" or xdelta3_size is None or row.corpus not in HDIFFPATCH_PERCENT:
        return xdelta3_size
    return min(xdelta3_size, HDIFFPATCH_PERCENT[row.corpus] / 100 * row.size)


def check_speed(table, verdict):
    encode = {row.corpus: row.encode_speed for row in of(table.rows, UNCOMPRESSED)}
    restore = {row.corpus: row.restore_speed for row in of(table.rows, FLAT)}
    for speeds, what, limits in [(encode, "encode of uncompressed kinds", UNCOMPRESSED_ENCODE_MIN),
                                 (restore, "restore of flat kinds", FLAT_RESTORE_MIN)]:
        if speeds:
            verdict.least(f"{what}, median", statistics.median(speeds.values()), limits["median"])
        for corpus, found in speeds.items():
            verdict.least(f"{what}, {corpus}", found, limits["any"])
    if (deflate := of(table.rows, DEFLATE)):
        both = sum_of(deflate)
        verdict.least("encode of deflate corpora", both.encode_speed, DEFLATE_SUM_MIN["encode"])
        verdict.least("restore of deflate corpora", both.restore_speed, DEFLATE_SUM_MIN["restore"])


def check_studied(table, verdict):
    for row in of(table.rows, STUDIED_PERCENT):
        most = STUDIED_MAX_RATIO * STUDIED_PERCENT[row.corpus]
        verdict.most(f"{row.corpus} beside the study of plain deltas", row.percent, most, " %")


def check_speed_of_max(table, verdict):
    for row in of(table.rows, MAX_EFFORT_MIN):
        encode, restore = MAX_EFFORT_MIN[row.corpus]
        if encode:
            verdict.least(f"encode at max, {row.corpus}", row.encode_speed, encode)
        verdict.least(f"restore at max, {row.corpus}", row.restore_speed, restore)


TITLES = {"corpora": "The corpora", "heldout": "Held-out histories", "repacked": "The same tar by other packers",
          "big": "Large files"}


def report(tables, verdict):
    """Prints the tables of one step and effort, and holds them against the limits."""
    for kind, table in tables.items():
        print_table(TITLES[kind], table)
        check(table, verdict)
        if kind == "corpora" and table.rows:
            check_all(table, verdict)


def print_efforts(tables):
    """Size against speed: one line for each effort."""
    step = tables[0].step.replace("-", " → ")
    print(f"\n### Efforts, the corpora, version {step}\n")
    print("| effort | % | × xdelta3 -9 | deflate % | encode MB/s, sum | median | restore MB/s, sum | median | MiB |")
    print("| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |")
    for table in tables:
        total, deflate, mean = sum_of(table.rows), of(table.rows, DEFLATE), mean_ratio(table)
        encode = statistics.median(row.encode_speed for row in table.rows)
        restore = statistics.median(row.restore_speed for row in table.rows)
        print(f"| `{table.effort}` | {total.percent:.2f} | {'–' if mean is None else f'{mean:.4f}'} "
              f"| {sum_of(deflate).percent if deflate else 0:.2f} | {total.encode_speed:.0f} | {encode:.0f} "
              f"| {total.restore_speed:.0f} | {restore:.0f} | {total.mib} |")


# ---- all ------------------------------------------------------------------------------------------

MARK = "<!-- What follows is written by benches/codec.py --into. -->\n"


def fill(path, tables):
    """Replaces what is behind the mark of a document."""
    text = path.read_text()
    log = ["git", "-C", path.resolve().parent, "log", "-1", "--format=%h of %as", "--", ":/src", ":/benches/codec.rs"]
    commit = subprocess.run(log, stdout=subprocess.PIPE, text=True, check=True).stdout.strip()
    path.write_text(f"{text[:text.index(MARK)]}{MARK}\nMeasured with the engine of commit {commit}.\n{tables}")


def measure_all(arguments, verdict):
    rows, peers = Rows(arguments.rows), Peers(arguments.corpora, arguments.peers)
    program = arguments.program.resolve(strict=True)
    found = {path.name for path in arguments.corpora.iterdir() if path.is_dir() and path.name[0] not in "._"}
    if unknown := set(arguments.names) - found:
        sys.exit(f"codec: no corpus {', '.join(sorted(unknown))} in {arguments.corpora}")
    names = arguments.names or [name for name in CORPORA if name in found] + sorted(found - set(CORPORA))
    for step in arguments.steps.split(","):
        files = {name: pair(arguments.corpora, name, step) for name in names}
        files = {name: both for name, both in files.items() if both}
        sizes = {name: peers.size(both, name, step) for name, both in files.items()}
        of_corpora = []
        for effort in arguments.effort:
            measured = [rows.measure(program, both, name, step, effort) for name, both in files.items()]
            tables = {kind: Table(step, effort, [row for row in measured if group(row.corpus) == kind], sizes)
                      for kind in TITLES}
            report(tables, verdict)
            of_corpora.append(tables["corpora"])
        if len(of_corpora) > 1 and of_corpora[0].rows:
            print_efforts(of_corpora)
    verdict.print()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("program", type=pathlib.Path, help="the built benches/codec.rs")
    parser.add_argument("corpora", type=pathlib.Path, help="where benches/corpus.py wrote to")
    parser.add_argument("names", nargs="*", help="these corpora only")
    parser.add_argument("--effort", nargs="+", default=["default"], choices=["fast", "default", "max"])
    parser.add_argument("--steps", default="3-4,1-4", help="pairs of versions (default: 3-4,1-4)")
    parser.add_argument("--peers", action="store_true", help="run xdelta3 -9 -D where its size is not known yet")
    parser.add_argument("--rows", type=pathlib.Path, help="keep what is measured there; do not measure it again")
    parser.add_argument("--into", type=pathlib.Path, help="write the tables into this document, too")
    arguments = parser.parse_args()
    verdict, printed = Verdict(), io.StringIO()
    with contextlib.redirect_stdout(printed):
        measure_all(arguments, verdict)
    print(printed.getvalue(), end="")
    if arguments.into:
        fill(arguments.into, printed.getvalue())
    sys.exit(bool(verdict.failures))


if __name__ == "__main__":
    main()
