#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Every tracked file says its licence, in the one form that its kind of file has. The argument is the source folder.

The line is one of the first three: a script begins with "#!", a man page with its title. With --write after the folder
the line is put where it is missing, or has another form.
"""

import os
import shutil
import subprocess
import sys

LINE = "SPDX-License-Identifier: MIT"
FORMS = {
    "// %s": (".c", ".cc", ".pml", ".proto"),
    "/* %s */": (".h", ".sym"),
    "<!-- %s -->": (".md",),
    "; %s": (".scd",),
}
OTHERS = "# %s"

# Files without the line, and why.
EXCEPTIONS = {
    "LICENSE": "is the licence",
    ".gitignore": "a list for git",
    ".clang-format": "a list of settings",
    ".editorconfig": "a list of settings",
    "tests/bench/results.json": "written by tests/bench.sh; JSON has no comments",
    "tests/bench/results.svg": "written by tests/bench.sh",
    "debian/changelog": "its format has no comments",
    "debian/copyright": "its format has a field for the licence",
    "debian/libpyheap0.symbols": "its format has no comments",
    "debian/source/format": "its format has no comments",
}


def form(path):
    for text, endings in FORMS.items():
        if path.endswith(endings):
            return text % LINE
    return OTHERS % LINE


def has_line(path):
    with open(path, encoding="utf-8") as file:
        return form(path) in [file.readline().rstrip("\n") for _ in range(3)]


def write_line(path):
    with open(path, encoding="utf-8") as file:
        lines = file.readlines()
    lines = [line for i, line in enumerate(lines) if i > 2 or LINE not in line]
    n_before = 1 if path.endswith(".scd") or (lines and lines[0].startswith("#!")) else 0
    lines.insert(n_before, form(path) + "\n")
    with open(path, "w", encoding="utf-8") as file:
        file.writelines(lines)


def main():
    os.chdir(sys.argv[1])
    if not os.path.exists(".git") or not shutil.which("git"):
        print("SKIPPED: not a checkout of git")
        return 77
    found = subprocess.run(["git", "ls-files", "-z"], capture_output=True, text=True, check=True)
    files = [path for path in found.stdout.split("\0") if path and os.path.exists(path)]
    without = [path for path in files if path not in EXCEPTIONS and not has_line(path)]
    if "--write" in sys.argv[2:]:
        for path in without:
            write_line(path)
        without = []
    faults = [f"{path}: none of its first three lines is `{form(path)}`" for path in without]
    faults += [f"{path}: an exception for a file that is not there" for path in EXCEPTIONS if path not in files]
    if len(files) < 100:
        faults.append(f"only {len(files)} files were found")
    if has_line("LICENSE"):
        faults.append("the check finds a line where there is none")
    print("\n".join(faults) or f"{len(files)} files, {len(EXCEPTIONS)} of them exceptions")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
