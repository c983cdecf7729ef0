#!/usr/bin/env python3
"""Round trips of generated edits through real packers: soak.py CONT [ROUNDS [SEED]].

Needs nothing but Python; gzip, zip, node, pigz, 7z and zopfli are used when they are installed.
"""
import gzip, io, os, random, shutil, struct, subprocess, sys, tempfile, zipfile, zlib

def text(r, n):
    words = [bytes(r.choices(b"abcdefghijklmnopqrstuvwxyz", k=r.randint(2, 9))) for _ in range(300)]
    out = b" ".join(r.choices(words, k=n // 5 + 1))
    return out[:n] if r.random() < 0.8 else out[: n // 2] + r.randbytes(n // 2)

def edit(r, b):
    b = bytearray(b)
    for _ in range(r.randint(1, 5)):
        at, n = r.randrange(len(b) + 1), r.randint(0, 400)
        kind = r.choice(["insert", "delete", "swap", "overwrite", "truncate"])
        if kind == "insert": b[at:at] = text(r, n)
        elif kind == "delete": del b[at:at + n]
        elif kind == "swap": b[at:at + 2 * n] = b[at + n:at + 2 * n] + b[at:at + n]
        elif kind == "overwrite": b[at:at + n] = text(r, n)[: len(b[at:at + n])]
        elif r.random() < 0.2: del b[at:]
    return bytes(b)

class Unseekable(io.RawIOBase):
    def __init__(self): self.data = bytearray()
    def writable(self): return True
    def write(self, b): self.data += b; return len(b)

def make_zip(r, files, style):
    sink = Unseekable() if style == "descriptors" else io.BytesIO()
    with zipfile.ZipFile(sink, "w") as z:
        for name, data in files.items():
            method = zipfile.ZIP_STORED if name.startswith("stored") else zipfile.ZIP_DEFLATED
            info = zipfile.ZipInfo(name); info.compress_type = method
            with z.open(info, "w", force_zip64=style == "zip64") as f: f.write(data)
    return bytes(sink.data) if style == "descriptors" else sink.getvalue()

def run(*command, data=None):
    return subprocess.run(command, input=data, capture_output=True, check=True).stdout

def pack_gzip(r, data, how):
    if how == "python": return gzip.compress(data, r.choice([1, 3, 6, 9]), mtime=1)
    if how == "node":
        level = r.choice([1, 6, 9])
        script = f"process.stdout.write(require('zlib').gzipSync(require('fs').readFileSync(0),{{level:{level}}}))"
        return run("node", "-e", script, data=data)
    if how == "7z": return run("7z", "a", "-tgzip", "-mx9", "-si", "-so", "x.gz", data=data)
    if how == "zopfli":
        with tempfile.NamedTemporaryFile() as f:
            f.write(data); f.flush(); return run("zopfli", "-c", "--i1", f.name)
    return run(how, "-c", r.choice(["-1", "-6", "-9"]), data=data)

def png(r, data):
    z = zlib.compress(data, r.choice([1, 6, 9])); n = r.choice([50, 8192, 1 << 20])
    def chunk(k, d): return struct.pack(">I", len(d)) + k + d + struct.pack(">I", zlib.crc32(k + d))
    body = b"".join(chunk(b"IDAT", z[i:i + n]) for i in range(0, len(z), n))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", bytes(13)) + body + chunk(b"IEND", b"")

def encrypted(files):
    with tempfile.TemporaryDirectory() as d:
        for name, data in files.items(): open(os.path.join(d, name), "wb").write(data)
        run("zip", "-q", "-j", "-P", "secret", d + "/x.zip", *[os.path.join(d, n) for n in files])
        return open(d + "/x.zip", "rb").read()

def pair(r):
    kind = r.choice(["zip", "gzip", "members", "png", "nested", "encrypted", "corrupt", "pdf"])
    old = text(r, r.randint(0, 60000)); new = edit(r, old)
    tools = ["python"] + [t for t in ("gzip", "pigz", "node", "7z", "zopfli") if shutil.which(t)]
    if kind == "gzip":
        how = r.choice(tools)
        return [pack_gzip(random.Random(7), x, how) for x in (old, new)]
    if kind == "members":
        parts = [text(r, 3000) for _ in range(5)]; changed = [edit(r, p) if r.random() < .3 else p for p in parts]
        how = r.choice(tools)
        return [b"".join(pack_gzip(random.Random(7), p, how) for p in x) for x in (parts, changed)]
    if kind == "png": return [png(random.Random(7), x) for x in (old, new)]
    if kind == "pdf": return [b"%PDF-1.4\n" + b"\nendstream\n".join(zlib.compress(x[i:i + 5000]) for i in range(0, len(x), 5000)) for x in (old, new)]
    if kind == "encrypted" and shutil.which("zip"): return [encrypted({"a": x or b"x", "b": b"same" * 99}) for x in (old, new)]
    files = {f"f{i}": text(r, r.randint(0, 9000)) for i in range(r.randint(1, 20))}
    if kind == "nested":
        style = r.choice(["usual", "descriptors", "zip64"])
        inner = [make_zip(r, {"deep": x, "same": files["f0"]}, style) for x in (old, new)]
        made = []
        for x, z in zip((old, new), inner):
            made.append(make_zip(r, {"zip": z, "stored.zip": z, "a.gz": gzip.compress(x, mtime=1), "b.png": png(random.Random(7), x), **files}, style))
        return made
    changed = {n: edit(r, d) if r.random() < .4 else d for n, d in files.items()}
    if r.random() < .3: changed.pop(r.choice(sorted(changed)))
    if r.random() < .3: changed["new"] = text(r, 5000)
    style = r.choice(["usual", "descriptors", "zip64"])
    made = [make_zip(r, x, style) for x in (files, changed)]
    if kind == "corrupt": made = [edit(r, x) if r.random() < .7 else x for x in made]
    return made

def main():
    cont, rounds = sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else 200
    seed = int(sys.argv[3]) if len(sys.argv) > 3 else random.randrange(1 << 30)
    print("seed", seed)
    with tempfile.TemporaryDirectory() as d:
        path = lambda n: os.path.join(d, n)
        for i in range(rounds):
            r = random.Random(seed + i)
            old, new = pair(r)
            open(path("old"), "wb").write(old); open(path("new"), "wb").write(new)
            effort = r.choice(["fast", "default", "max"])
            run(cont, "--effort", effort, "enc", path("old"), path("new"), path("delta"))
            run(cont, "dec", path("old"), path("delta"), path("out"))
            if open(path("out"), "rb").read() != new: sys.exit(f"round {seed + i}: another file came back")
    print(rounds, "round trips exact")

main()
