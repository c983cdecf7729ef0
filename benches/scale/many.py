#!/usr/bin/env python3
"""10,000 objects of 1 to 100 kB, pushed, edited, pushed again and pulled, beside lfs-dal on the same S3 server.

    benches/scale/many.py AGENT [--dal PROGRAM] [--objects 10000] [--bytes SIZE] [--server seaweedfs] [--line MEGABITS]

lfs-dal stores objects whole, by OpenDAL. It is a published crate: `cargo install lfs-dal --version 0.1.3 --root FOLDER`
outside of this repository, and PROGRAM is FOLDER/bin/lfs-dal. Both are run by the same git-lfs with eight workers, in
turns, each on a bucket folder of its own; objects are noise, and edits replace four places of each. With `--line` all
requests of both go through a proxy that passes so many megabits a second in each direction (`line.py`). With `--bytes`
all objects have that size: what remains of a few hundred is what the requests take, whoever sends them.
"""

import argparse
import pathlib
import random

from line import Line
from team import Cost, Person, Server, Watch, edited, make_folder, noise


def files(count, size=None):
    chance = random.Random(3)
    return [noise(seed, size or chance.randrange(1000, 100_001)) for seed in range(count)]


class Tool:
    """A repository whose objects go through one of the two programs."""

    def __init__(self, world, name, agent, server, dal=None):
        self.name, self.world, self.program = name, world, dal or agent
        keys = {"AWS_ACCESS_KEY_ID": server["access_key"], "AWS_SECRET_ACCESS_KEY": server["secret_key"],
                "AWS_REGION": "us-east-1"}
        self.person = Person(world, name, agent, keys, install=dal is None)
        self.server, self.dal = server, dal
        self.remote = self.person.home.parent / f"{name}.git"
        self.person.run("git", "init", "--quiet", "--bare", self.remote)
        self.person.run("git", "lfs", "install")
        self.person.clone(self.remote)
        if dal:
            self.use_dal()
        else:
            self.person.run(agent, "init", f"s3://{server['bucket']}/{name}?endpoint={server['url']}")
        self.person.run("git", "lfs", "track", "*.bin")
        self.commit("Start", {})

    def use_dal(self):
        config = lambda *words: self.person.run("git", "config", *words)
        config("lfs.standalonetransferagent", "lfs-dal")
        config("lfs.customtransfer.lfs-dal.path", self.dal)
        for key, value in [("scheme", "s3"), ("bucket", self.server["bucket"]), ("region", "us-east-1"),
                           ("endpoint", self.server["url"]), ("root", f"/{self.name}"),
                           ("access-key-id", self.server["access_key"]),
                           ("secret-access-key", self.server["secret_key"])]:
            config("-f", ".lfsdalconfig", f"lfs-dal.{key}", value)
        config("-f", ".lfsconfig", "lfs.url", "lfs-dal")

    def commit(self, message, contents):
        for name, content in contents.items():
            path = self.person.folder / name
            path.parent.mkdir(exist_ok=True)
            path.write_bytes(content)
        self.person.commit(message)

    def push(self):
        with Cost() as cost, Watch(self.program) as watch:
            self.person.run("git", "push", "--quiet", "origin", "HEAD:main")
        return cost, watch

    def pull_cold(self):
        """Gets all objects of the newest commit with nothing at hand."""
        # Moved, not removed: file systems make new files slowly for minutes after many were removed.
        for folder in [self.person.folder / ".git/lfs/objects", self.person.home / ".cache/lfs-delta"]:
            if folder.exists():
                folder.rename(self.person.home / f"old-{folder.name}")
        with Cost() as cost, Watch(self.program) as watch:
            self.person.run("git", "lfs", "fetch", "origin", "HEAD")
        return cost, watch


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("agent", type=pathlib.Path)
    parser.add_argument("--dal", type=pathlib.Path)
    parser.add_argument("--objects", type=int, default=10_000)
    parser.add_argument("--bytes", type=int)
    parser.add_argument("--server", default="seaweedfs")
    parser.add_argument("--line", type=float, metavar="MEGABITS")
    chosen = parser.parse_args()
    agent, server = chosen.agent.resolve(strict=True), Server(chosen.server)
    line = Line(server.said["url"], chosen.line) if chosen.line else None
    said = {**server.said, **({"url": line.url} if line else {})}
    try:
        with make_folder("many") as folder:
            world = pathlib.Path(folder)
            tools = [Tool(world, "lfs-delta", agent, said)]
            if chosen.dal:
                tools.append(Tool(world, "lfs-dal", agent, said, chosen.dal.resolve(strict=True)))
            prepare(Tool(world, "first", agent, server.said))
            measure(tools, files(chosen.objects, chosen.bytes))
    finally:
        if line:
            line.close()
        server.close()


def prepare(tool):
    """A bucket's first files wait for seconds until SeaweedFS has made room for them, whoever brings them."""
    tool.commit("Something", {"a.bin": noise(0, 100_000), "b.bin": noise(1, 100_000)})
    tool.push()


def measure(tools, contents):
    contents = {f"f{number % 100}/{number}.bin": content for number, content in enumerate(contents)}
    print("| | tool | wall s | CPU s | MiB of an agent | × lfs-dal |")
    print("| --- | --- | ---: | ---: | ---: | ---: |")
    for what in ["first push", "edited push", "cold pull"]:
        rows = {}
        if what == "edited push":
            contents = {name: edited(content, name) for name, content in contents.items()}
        for tool in tools:
            if what != "cold pull":
                tool.commit(what, contents)
            rows[tool.name] = tool.pull_cold() if what == "cold pull" else tool.push()
        theirs = rows.get("lfs-dal")
        for name, (cost, watch) in rows.items():
            ratio = f"{cost.wall / theirs[0].wall:.2f}" if theirs else "–"
            print(f"| {what} | {name} | {cost.wall:.1f} | {cost.cpu:.1f} | {watch.private:.0f} | {ratio} |", flush=True)


if __name__ == "__main__":
    main()
