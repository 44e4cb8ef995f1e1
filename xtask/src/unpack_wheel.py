"""Reads wheels for `cargo xtask`; only the standard library is needed.

    unpack_wheel.py requirements WHEEL             the CUDA wheels its metadata asks for, one a line
    unpack_wheel.py unpack WHEEL FOLDER RULE...    writes the members that a rule names, prints how many

A RULE is `PATTERN=SUBFOLDER`; a star also matches slashes. A pattern that ends in `/**` keeps what follows the part
before its first star; any other pattern keeps the file name alone.

Exit status 3: the file is damaged (no zip, or a member fails its CRC check, which reading it to the end performs).
"""
import fnmatch
import os
import shutil
import sys
import zipfile
import zlib


def requirements(wheel):
    with zipfile.ZipFile(wheel) as archive:
        metadata = next(n for n in archive.namelist() if n.endswith(".dist-info/METADATA"))
        lines = archive.read(metadata).decode("utf-8").split("\n\n")[0].splitlines()
    for line in lines:
        key, _, value = line.partition(":")
        requirement = value.partition(";")[0].strip()
        if key == "Requires-Dist" and requirement.startswith(("nvidia-", "cuda-toolkit")) and "extra ==" not in value:
            print(requirement)


def destination(member, rules):
    for pattern, subfolder in rules:
        if fnmatch.fnmatchcase(member, pattern):
            fixed = pattern.partition("*")[0]
            base = fixed[: fixed.rfind("/") + 1]
            below = member[len(base):] if pattern.endswith("/**") else os.path.basename(member)
            return os.path.join(subfolder, below)
    return None


def unpack(wheel, folder, rules):
    written = 0
    with zipfile.ZipFile(wheel) as archive:
        for info in archive.infolist():
            target = None if info.is_dir() else destination(info.filename, rules)
            if target is None:
                continue
            if os.path.isabs(target) or ".." in target.split("/"):
                sys.exit("unsafe path in the wheel: " + info.filename)
            path = os.path.join(folder, target)
            os.makedirs(os.path.dirname(path), exist_ok=True)
            with archive.open(info) as source, open(path, "wb") as out:
                shutil.copyfileobj(source, out, 1 << 20)
            written += 1
    print(written)


def main():
    command, wheel, *rest = sys.argv[1:]
    try:
        if command == "requirements":
            requirements(wheel)
        else:
            unpack(wheel, rest[0], [tuple(rule.split("=", 1)) for rule in rest[1:]])
    except (zipfile.BadZipFile, zlib.error, EOFError, StopIteration) as error:
        print("damaged: %s: %s" % (wheel, error), file=sys.stderr)
        sys.exit(3)


main()
