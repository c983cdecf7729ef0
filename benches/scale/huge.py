#!/usr/bin/env python3
"""One file of many GiB: pushed, edited in place, pushed, edited at the front, pushed, cloned.

    benches/scale/huge.py AGENT git [--gib 5] [--folder PLACE]           # through real git and git-lfs
    benches/scale/huge.py AGENT scripted [--gib 20] [--folder PLACE]     # the same file by agents, without git-lfs
    benches/scale/huge.py AGENT agents [--gib 5] [--dal PROGRAM]         # noise by agents, beside lfs-dal, on S3

`git`: a sparse file with 256 MiB of noise scattered over it, to a store in a directory; the clone is compared with it.
Prints what is stored, the memory of the agent, and for how long no progress was told. `scripted`: the same, where what
git-lfs itself copies would not fit on the disk. `agents`: noise, of which nothing can be compressed; lfs-dal
(`cargo install lfs-dal --version 0.1.3 --root FOLDER`) stores every version whole.
Looks first whether the disk has room: five times the size, twice where it is scripted. Versions that are not needed any
more are removed on the way. Ends with 0 only if the bytes came back and the limits of what the agent may take held.
"""

import argparse
import hashlib
import os
import pathlib
import random
import shutil
import sys
import time

from team import Agent, Cost, Person, Report, Server, Watch, make_folder, object_path, stored_bytes

MIB, GIB = 1 << 20, 1 << 30
# Times the size: versions, copies, and what an encode spills. A sparse file takes little, what a pull makes of it all.
DISK = {"git": 5, "agents": 5, "scripted": 2}

# What no size may exceed: memory that no file backs, seconds without progress, bytes of the two small edits.
MEMORY_MAX_MIB, SILENCE_MAX_S, EDIT_MAX_BYTES = 512, 30, 100_000
# Times the wall seconds of lfs-dal: of the first push, and of one after an edit.
FIRST_MAX_RATIO, EDIT_MAX_RATIO = 1.0, 0.3


def write_sparse(path, size, edits, front):
    """Noise of 1 MiB at 256 places; some of it replaced, and some bytes put before all."""
    chance = random.Random(5)
    with open(path, "wb") as file:
        file.write(random.Random(6).randbytes(front))
        for number in range(256):
            file.seek(front + size // 256 * number)
            block = bytearray(chance.randbytes(MIB))
            if edits and number % 4 == 0:
                block[1000:1000 + edits] = random.Random(number).randbytes(edits)
            file.write(block)
        file.truncate(size + front)


def write_noise(path, size, edits, front):
    """Noise all over, by blocks that repeat nowhere."""
    with open(path, "wb") as file:
        file.write(random.Random(6).randbytes(front))
        for number in range(size // MIB):
            block = bytearray(random.Random(number).randbytes(MIB))
            if edits and number % 64 == 0:
                block[1000:1000 + edits] = random.Random(-number - 1).randbytes(edits)
            file.write(block)


def versions(size):
    """What is done to the file, and how each version is written."""
    return [("first push", (size, 0, 0)), ("push after edits in place", (size, 100, 0)),
            ("push after an edit at the front", (size, 100, 5000))]


def digest(path):
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def through_git(agent, size, world, report):
    person, store = Person(world, "maker", agent), world / "store"
    remote = person.start_repository(store, "*.img")
    print("| | wall s | CPU s | bytes stored | MiB of the agent, without mapped files | s without progress |")
    print("| --- | ---: | ---: | ---: | ---: | ---: |")
    before = 0
    for what, shape in versions(size):
        write_sparse(person.folder / "disk.img", *shape)
        with Cost() as cost:
            person.commit(what)
        print(f"(add and commit, git-lfs alone: {cost})", file=sys.stderr)
        run(report, what, person, agent, store, before, "git", "push", "--quiet")
        before = stored_bytes(store)
        # What git lfs prune would do, but for the newest: that is the base of the next.
        for path in person.folder.glob(".git/lfs/objects/*/*/*"):
            if path.name != digest_of_pointer(person):
                path.unlink()
        shutil.rmtree(person.home / ".cache")
    expected = digest_of_pointer(person)
    shutil.rmtree(person.home)
    other = Person(world, "other", agent)
    # While a clone checks out files, git-lfs tells nothing of what the agent tells it.
    other.set(GIT_LFS_SKIP_SMUDGE="1")
    other.clone(remote)
    run(report, "clone", other, agent, store, before, "git", "lfs", "pull")
    report.expect("wrong bytes in the clone", digest(other.home / "work/disk.img") != expected, 0)


def scripted(agent, size, world, report):
    person, store = start("lfs-delta", agent, world), world / "store"
    person.run(agent, "init", f"file://{store}")
    command, last, before = [agent, "agent"], None, 0
    print("| | wall s | CPU s | bytes stored | MiB of the agent, without mapped files | s without progress |")
    print("| --- | ---: | ---: | ---: | ---: | ---: |")
    for what, shape in versions(size):
        oid, length, path = keep(person, what, write_sparse, shape)
        event = {"event": "upload", "oid": oid, "size": length, "path": str(path), "action": None}
        transfer(report, what, agent, command, "upload", person, event, store, before)
        before = stored_bytes(store)
        if last:
            last.unlink()
        last = path
        shutil.rmtree(person.home / ".cache", ignore_errors=True)
    last.unlink()
    event = {"event": "download", "oid": oid, "size": length, "action": None}
    found = transfer(report, "pull with nothing at hand", agent, command, "download", person, event, store, before,
                     lambda answer: digest(answer["path"]))
    report.expect("wrong bytes pulled", found != oid, 0)


def keep(person, what, write, shape):
    """Commits the pointer of a version and puts the object where git-lfs keeps it: its oid, its size and the place."""
    path = person.home / "version"
    write(path, *shape)
    oid, length = digest(path), path.stat().st_size
    place = object_path(person.folder, oid)
    place.parent.mkdir(parents=True, exist_ok=True)
    path.rename(place)
    pointer = f"version https://git-lfs.github.com/spec/v1\noid sha256:{oid}\nsize {length}\n"
    (person.folder / "disk.img").write_text(pointer)
    person.commit(what)
    return oid, length, place


def transfer(report, what, agent, command, operation, person, event, store, before, look=lambda answer: None):
    """Lets an agent transfer an object, prints what that took, and returns what `look` finds before the agent ends."""
    with Cost() as cost, Watch(agent) as watch:
        one = Agent(command, operation, person.environment, person.folder)
        answer = one.transfer(event)
        told = time.monotonic()
        found = look(answer)
        looked = time.monotonic() - told
        one.end()
    tell(report, what, cost.wall - looked, cost.cpu, stored_bytes(store) - before, watch.private, one.silence)
    return found


def tell(report, what, wall, cpu, stored, memory, silence):
    """Prints a row, and holds it to the limits."""
    print(f"| {what} | {wall:.0f} | {cpu:.0f} | {stored:,} | {memory:.0f} | {silence:.1f} |", flush=True)
    report.hold(f"MiB of memory, {what}", memory, MEMORY_MAX_MIB)
    report.hold(f"s without progress, {what}", silence, SILENCE_MAX_S)
    if "edit" in what:
        report.hold(f"bytes stored, {what}", stored, EDIT_MAX_BYTES)


def digest_of_pointer(person):
    return person.run("git", "show", "HEAD:disk.img").split("sha256:")[1].split()[0]


def run(report, what, person, agent, store, before, *command):
    progress = person.home / "progress"
    progress.unlink(missing_ok=True)
    person.set(GIT_LFS_PROGRESS=str(progress))
    with Cost() as cost, Watch(agent, progress) as watch:
        person.run(*command)
    tell(report, what, cost.wall, cost.cpu, stored_bytes(store) - before, watch.private, watch.silence)


def by_agents(agent, dal, size, world, server_name, report):
    print("| | tool | wall s | CPU s | MiB of the agent | × lfs-dal |")
    print("| --- | --- | ---: | ---: | ---: | ---: |")
    theirs, tools = {}, [("lfs-dal", dal)] if dal else []
    for name, program in [*tools, ("lfs-delta", agent)]:
        with Servers(server_name) as servers:
            person = start(name, agent, world)
            for what, cost, watch in pushes_of(person, program, size, servers):
                theirs.setdefault(what, cost.wall)
                ratio = cost.wall / theirs[what]
                print(f"| {what} | {name} | {cost.wall:.0f} | {cost.cpu:.0f} | {watch.private:.0f} | "
                      f"{f'{ratio:.2f}' if dal else '–'} |", flush=True)
                if dal and name == "lfs-delta":
                    report.hold(f"× lfs-dal, {what}", ratio, EDIT_MAX_RATIO if "edit" in what else FIRST_MAX_RATIO)
            shutil.rmtree(person.home)


class Servers:
    """One server after the other, so that only what is needed takes room."""

    def __init__(self, name):
        self.name, self.now = name, None

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.now:
            self.now.close()

    def fresh(self):
        self.__exit__()
        self.now = Server(self.name)
        return self.now.said


def start(name, agent, world):
    # lfs-dal is not known to git-lfs here: it is driven as lfs-delta is.
    person = Person(world, name, agent, install=name == "lfs-delta")
    person.folder = person.home / "work"
    person.run("git", "init", "--quiet", person.folder, cwd=person.home)
    return person


def use(person, server):
    """Lets a repository's objects go to a server."""
    person.set(AWS_ACCESS_KEY_ID=server["access_key"], AWS_SECRET_ACCESS_KEY=server["secret_key"], AWS_REGION="us-east-1")
    if person.home.name == "lfs-delta":
        person.run(person.agent, "trust", "127.0.0.1")
        person.run(person.agent, "init", f"s3://{server['bucket']}/huge?endpoint={server['url']}")
        return
    for key, value in [("scheme", "s3"), ("bucket", server["bucket"]), ("region", "us-east-1"), ("root", "/dal"),
                       ("endpoint", server["url"]), ("access-key-id", server["access_key"]),
                       ("secret-access-key", server["secret_key"])]:
        person.run("git", "config", "-f", ".lfsdalconfig", f"lfs-dal.{key}", value)


def pushes_of(person, program, size, servers):
    is_ours, last = person.home.name == "lfs-delta", None
    for number, (what, shape) in enumerate(versions(size)):
        # What stores every version whole needs none of those before.
        if number == 0 or not is_ours:
            use(person, servers.fresh())
        oid, length, place = keep(person, what, write_noise, shape)
        with Cost() as cost, Watch(program) as watch:
            one = Agent([program, *(["agent"] if is_ours else [])], "upload", person.environment, person.folder)
            one.transfer({"event": "upload", "oid": oid, "size": length, "path": str(place), "action": None})
            one.end()
        yield what, cost, watch
        # Only the last version is the base of the next.
        if last:
            last.unlink()
        last = place
        shutil.rmtree(person.home / ".cache", ignore_errors=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("agent", type=pathlib.Path)
    parser.add_argument("through", choices=["git", "scripted", "agents"])
    parser.add_argument("--gib", type=float, default=5)
    parser.add_argument("--folder", type=pathlib.Path, help="where there is room")
    parser.add_argument("--dal", type=pathlib.Path)
    parser.add_argument("--server", default="seaweedfs")
    chosen = parser.parse_args()
    agent, size = chosen.agent.resolve(strict=True), int(chosen.gib * 1024) * MIB
    if chosen.folder:
        os.environ["TMPDIR"] = str(chosen.folder.resolve(strict=True))
    with make_folder("huge") as folder:
        free = shutil.disk_usage(folder).free
        needed = DISK[chosen.through] * size
        if free < needed:
            sys.exit(f"{folder} has {free / GIB:.0f} GiB free, and this takes up to {needed / GIB:.0f}")
        report = Report()
        if chosen.through == "git":
            through_git(agent, size, pathlib.Path(folder), report)
        elif chosen.through == "scripted":
            scripted(agent, size, pathlib.Path(folder), report)
        else:
            by_agents(agent, chosen.dal and chosen.dal.resolve(strict=True), size, pathlib.Path(folder), chosen.server,
                      report)
    report.end()


if __name__ == "__main__":
    main()
