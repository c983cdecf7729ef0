#!/usr/bin/env python3
"""What CI pays that clones the newest version with nothing at hand, again after each push, over the corpora's histories.

    benches/scale/clones.py AGENT CORPORA [names ...]

CORPORA is what benches/corpus.py made. Each version is pushed by an agent of its own. After each push but the first an
agent with an empty cache downloads the newest version, and another one to which the base of its last delta is at
hand. Bytes are those of all copies that the first needs, beside the whole copy that the object would have been; CPU seconds are
those of the two agents, start and hashing included.
"""

import argparse
import hashlib
import os
import pathlib
import shutil

from team import Agent, Person, Report, make_folder, object_path

BYTES_MAX, CPU_MAX = 1.1, 2.0


class Repository:
    """One file, whose versions are committed as pointers."""

    def __init__(self, person, store):
        self.person, self.store = person, store
        self.folder = person.home / "work"
        person.run("git", "init", "--quiet", self.folder, cwd=person.home)
        person.folder = self.folder
        person.run(person.agent, "init", store)

    def agent(self, operation, cache):
        command = [self.person.agent, "agent"]
        return Agent(command, operation, {**self.person.environment, "LFS_DELTA_CACHE_DIR": str(cache)}, self.folder)

    def commit(self, path):
        """Commits the next version and returns its oid and size."""
        with open(path, "rb") as file:
            oid = hashlib.file_digest(file, "sha256").hexdigest()
        size, place = path.stat().st_size, object_path(self.folder, oid)
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, place)
        pointer = f"version https://git-lfs.github.com/spec/v1\noid sha256:{oid}\nsize {size}\n"
        (self.folder / f"file{path.suffix}").write_text(pointer)
        self.person.commit(path.name)
        return oid, size

    def push(self, oid, size):
        agent = self.agent("upload", self.person.home / "cache")
        agent.transfer({"event": "upload", "oid": oid, "size": size, "path": str(object_path(self.folder, oid))})
        agent.end()

    def pull(self, oid, size, cache):
        """Downloads an object that git-lfs has not, and returns the CPU seconds of the agent."""
        shutil.rmtree(cache, ignore_errors=True)
        agent = self.agent("download", cache)
        answer = agent.transfer({"event": "download", "oid": oid, "size": size})
        with open(answer["path"], "rb") as file:
            if hashlib.file_digest(file, "sha256").hexdigest() != oid:
                raise SystemExit(f"other bytes came for {oid}")
        agent.send({"event": "terminate"})
        agent.process.stdin.close()
        _, status, usage = os.wait4(agent.process.pid, 0)
        agent.process.returncode = os.waitstatus_to_exitcode(status)
        return usage.ru_utime + usage.ru_stime

    def chain(self, oid):
        """The copies of an object down to the whole one, by their names; this history has one of each object."""
        [copy] = (pathlib.Path(self.store) / "objects" / oid[:2] / oid).iterdir()
        kind, base, *_ = copy.name.split(".")
        return [copy, *(self.chain(base) if kind == "delta" else [])]

    def hide(self, oids):
        """Takes objects away from git-lfs until the returned function is called."""
        moved = [(object_path(self.folder, oid), self.person.home / oid) for oid in oids]
        for place, aside in moved:
            place.rename(aside)
        return lambda: [aside.rename(place) for place, aside in moved]


def whole_size(person, world, path):
    """Bytes of the copy that an object would be if nothing were known."""
    repository = Repository(person, world / "whole.store")
    oid, size = repository.commit(path)
    repository.push(oid, size)
    [copy] = repository.chain(oid)
    stored = copy.stat().st_size
    shutil.rmtree(world / "whole.store")
    shutil.rmtree(repository.folder)
    return stored


def measure(agent, folder, world):
    """One row for each clone: bytes fetched, bytes of a whole copy, CPU seconds cold and of the last delta, links."""
    person, rows, oids = Person(world, "one", agent), [], []
    other = Person(world, "other", agent)
    repository = Repository(person, world / "store")
    for path in sorted(folder.glob("v[0-9]*"), key=lambda path: int(path.stem.split(".")[0][1:])):
        oid, size = repository.commit(path)
        repository.push(oid, size)
        oids.append(oid)
        if len(oids) == 1:
            continue
        chain = repository.chain(oid)
        base = chain[1].parent.name if len(chain) > 1 else None
        bring_back = repository.hide(oids)
        cold = repository.pull(oid, size, world / "cold")
        bring_back()
        bring_back = repository.hide([other for other in oids if other != base])
        last = repository.pull(oid, size, world / "warm")
        bring_back()
        fetched = sum(copy.stat().st_size for copy in chain)
        rows.append((fetched, whole_size(other, world, path), cold, last, len(chain)))
    return rows


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("agent", type=pathlib.Path)
    parser.add_argument("corpora", type=pathlib.Path)
    parser.add_argument("names", nargs="*")
    chosen = parser.parse_args()
    agent, report, total = chosen.agent.resolve(strict=True), Report(), [0] * 5
    names = chosen.names or sorted(path.name for path in chosen.corpora.iterdir() if len(list(path.glob("v4*"))) == 1)
    print("| corpus | clones | bytes fetched | of whole copies | CPU s | of the last delta | links |")
    print("| --- | ---: | ---: | ---: | ---: | ---: | ---: |")
    count = 0
    for name in names:
        with make_folder("clones") as world:
            rows = measure(agent, chosen.corpora / name, pathlib.Path(world))
        sums = [sum(column) for column in zip(*rows)]
        total, count = [one + other for one, other in zip(total, sums)], count + len(rows)
        print_row(name, len(rows), sums)
    print_row("**sum**", count, total)
    fetched, whole, cold, last, _ = total
    report.expect("bytes that cold clones fetch, of whole copies", fetched / whole, BYTES_MAX)
    report.expect("CPU seconds of cold clones, of the last deltas'", cold / last, CPU_MAX)
    report.end()


def print_row(name, count, sums):
    fetched, whole, cold, last, links = sums
    print(f"| {name} | {count} | {fetched:,} | {fetched / whole:.3f} | {cold:.2f} | {cold / last:.2f} | "
          f"{links / count:.1f} |", flush=True)


if __name__ == "__main__":
    main()
