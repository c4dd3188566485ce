#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""The man pages and completions, compared with what the programs' help, the header and the symbol files say.

Whatever is named on one side only is a failure, whichever side it is. With --write the sentences of
pyheap_strerror(3) are written anew from the library's, and the structs of pyheap_stats(3) from the header's.
"""

import os
import re
import subprocess
import sys
import textwrap
import unittest

SOURCE = os.environ.get("PYHEAP_SOURCE", os.path.join(os.path.dirname(os.path.abspath(__file__)), "../.."))
PROGRAMS = {"pyheapd": (os.environ.get("PYHEAPD"), "pyheapd.8"),
            "pyheapctl": (os.environ.get("PYHEAPCTL"), "pyheapctl.1")}
OPTION = r"--[a-z][a-z-]*"


def read(*path):
    with open(os.path.join(SOURCE, *path), encoding="utf-8") as file:
        return file.read()


def page(name):
    """A page as its sections: heading to text."""
    text = read("doc", name + ".scd")
    parts = re.split(r"^# (.*)\n", text, flags=re.M)
    return dict(zip(parts[1::2], parts[2::2]))


def pages(section):
    return sorted(name[:-len(".scd")] for name in os.listdir(os.path.join(SOURCE, "doc"))
                  if name.endswith(f".{section}.scd"))


def page_names(name):
    """What the page is found by: the part of NAME before the dash."""
    return [n.strip() for n in page(name)["NAME"].split(" - ")[0].replace("\n", " ").split(",")]


def header():
    folder = os.path.join(SOURCE, "include")
    return "\n".join(read("include", name) for name in sorted(os.listdir(folder)) if name.endswith(".h"))


def without_comments(text):
    return re.sub(r"/\*.*?\*/", "", text, flags=re.S)


def one_spaced(text):
    return " ".join(text.split())


def help_of(program, *args):
    return subprocess.run([PROGRAMS[program][0], *args], check=True, capture_output=True, text=True, timeout=120).stdout


def help_options(program):
    """Option to the name of its value, as the help's own lines say; "" for none."""
    found = {}
    for line in help_of(program, "--help").splitlines():
        if re.match(rf"  {OPTION}", line):
            for option, value in re.findall(rf"({OPTION})(?: ([A-Z]+)\b)?", re.split(r"  +", line.strip())[0]):
                found[option] = value
    return found


def page_options(program, text=None):
    text = page(PROGRAMS[program][1])["OPTIONS"] if text is None else text
    return {option: value for line in re.findall(r"^\*--.*", text, flags=re.M)
            for option, value in re.findall(rf"\*({OPTION})\*(?: _([A-Z]+)_)?", line)}


def help_commands():
    """Command to its arguments, of `pyheapctl --help`."""
    text = help_of("pyheapctl", "--help").split("commands:\n")[1].split("\n\n")[0]
    found = {}
    for line in text.splitlines():
        command, arguments = re.match(r"  (\w+) +((?:\[?(?:--\w*|[A-Z]+)\]?(?:\.\.\.)? ?)*)", line).groups()
        found[command] = arguments.strip()
    return found


def page_commands():
    text = page("pyheapctl.1")["COMMANDS"]
    return {command: arguments.replace("*", "").replace("_", "").strip()
            for command, arguments in re.findall(r"^\*(\w+)\*(.*)", text, flags=re.M)}


def completed(program, *words):
    """What bash would offer for the last word."""
    script = 'source "$1"; program=$2; shift; COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); "_$program"; ' \
             'printf "%s\\n" "${COMPREPLY[@]}"'
    file = os.path.join(SOURCE, "client/ctl/completions", program + ".bash")
    return set(subprocess.run(["bash", "-c", script, "bash", file, program, *words], check=True, capture_output=True,
                              text=True, timeout=120).stdout.split())


def zsh_text(program):
    text = read("client/ctl/completions", "_" + program)
    return "\n".join(line for line in text.splitlines() if not line.startswith("#"))


def zsh_options(text):
    return set(re.findall(rf"'(?:\([^)]*\))?({OPTION})=?\[", text))


def symbols(text, pattern):
    return set(re.findall(pattern, text, flags=re.M))


def errors():
    """The errors that the library knows by name and their sentences, as the page is to show them."""
    found, names = [], []
    for name, strings in re.findall(r'case (\w+):|return ((?:"[^"]*"\s*)+);', read("client/error.c")):
        if name:
            names.append(name)
            continue
        if names and names != ["0"]:
            sentence = "".join(re.findall(r'"([^"]*)"', strings))
            found.append((", ".join(f"*-{each}*" for each in names), sentence[0].upper() + sentence[1:] + "."))
        names = []
    return found


def errors_text():
    return "".join(f"{names}\n" + textwrap.fill(sentence, 106, initial_indent="\t", subsequent_indent="\t",
                                                break_on_hyphens=False) + "\n\n" for names, sentence in errors())


def struct_text(name):
    """The members of a public struct as the header has them, comments included."""
    body = re.search(rf"^typedef struct {name} \{{\n(.*?)^\}} {name};", header(), flags=re.M | re.S).group(1)
    return re.sub(r"^\t", "", body, flags=re.M)


def structs_text():
    return ("_classes_ has a member per size class, _PYHEAP_CLASSES_ (128) in all:\n\n```\n" +
            struct_text("pyheap_class_stats") + "```\n\nThe others:\n\n```\n" + struct_text("pyheap_stats") +
            "```\n\n# PYHEAP_CLIENT_INFO\n\n```\n" + struct_text("pyheap_client_info") +
            "```\n\n# PYHEAP_USAGE\n\n```\n" + struct_text("pyheap_usage") + "```\n\n")


def write_between(name, first, last, text):
    """Write what stands in a page between two headings anew."""
    before, old, after = re.match(rf"(.*\n# {first}\n\n)(.*?)(# {last}\n.*)", read("doc", name), flags=re.S).groups()
    if old != text:
        with open(os.path.join(SOURCE, "doc", name), "w", encoding="utf-8") as file:
            file.write(before + text + after)


def write_pages():
    write_between("pyheap_strerror.3.scd", "ERRORS OF THE LIBRARY", "SEE ALSO", errors_text())
    write_between("pyheap_stats.3.scd", "PYHEAP_STATS", "RETURN VALUE", structs_text())


class Options(unittest.TestCase):
    def test_the_help_has_options(self):
        self.assertGreaterEqual(len(help_options("pyheapd")), 12)
        self.assertGreaterEqual(len(help_options("pyheapctl")), 5)

    def test_page_and_help(self):
        for program in PROGRAMS:
            with self.subTest(program):
                self.assertEqual(page_options(program), help_options(program))

    def test_bash_and_help(self):
        for program in PROGRAMS:
            with self.subTest(program):
                self.assertEqual(completed(program, "--"), set(help_options(program)))

    def test_zsh_and_help(self):
        for program in PROGRAMS:
            with self.subTest(program):
                self.assertEqual(zsh_options(zsh_text(program)), set(help_options(program)))

    def test_options_with_a_value(self):
        for program in PROGRAMS:
            for option, value in help_options(program).items():
                with self.subTest(program + option):
                    self.assertEqual(f"{option}=[" in zsh_text(program), bool(value))
                    # Where a value is due bash offers no options.
                    offered = completed(program, option, "--")
                    self.assertEqual(any(word in help_options(program) for word in offered), not value)

    def test_each_option_that_is_missing_is_noticed(self):
        """The readers above see every option: without its line it is gone."""
        for program in PROGRAMS:
            text, zsh = page(PROGRAMS[program][1])["OPTIONS"], zsh_text(program)
            for option in help_options(program):
                with self.subTest(program + option):
                    self.assertNotIn(option, page_options(program, text.replace(f"*{option}*", "")))
                    self.assertNotIn(option, zsh_options(re.sub(rf"{option}=?\[", "", zsh)))

    def test_exit_status(self):
        for program, (_, name) in PROGRAMS.items():
            with self.subTest(program):
                said = re.split(r"exit (?:codes|status):\n", help_of(program, "--help"), flags=re.I)[1]
                self.assertEqual(re.findall(r"^\*(\d+)\*", page(name)["EXIT STATUS"], flags=re.M),
                                 re.findall(r"^  (\d+) ", said, flags=re.M))


class Commands(unittest.TestCase):
    def test_page_and_help(self):
        self.assertGreaterEqual(len(help_commands()), 8)
        self.assertEqual(page_commands(), help_commands())

    def test_bash_and_help(self):
        self.assertEqual(completed("pyheapctl", ""), set(help_commands()))
        self.assertEqual(completed("pyheapctl", "help", ""), set(help_commands()))

    def test_zsh_and_help(self):
        text = zsh_text("pyheapctl")
        self.assertEqual(symbols(text, r"^\t\t'(\w+):"), set(help_commands()))
        listed = re.search(r"words\[\(r\)\(([a-z|]*)\)\]", text).group(1)
        self.assertEqual(set(listed.split("|")), set(help_commands()))

    def test_options_of_each(self):
        """After a command the options are offered that its line in the help has, and the common ones."""
        own = {command: set(re.findall(OPTION, arguments)) for command, arguments in help_commands().items()}
        common = set(help_options("pyheapctl")) - set().union(*own.values())
        zsh = {}
        for commands, option in re.findall(rf"^([\w |]+)\) options\+=\('({OPTION})", zsh_text("pyheapctl"), flags=re.M):
            for command in commands.split(" | "):
                zsh.setdefault(command, set()).add(option)
        for command, options in own.items():
            with self.subTest(command):
                self.assertEqual(completed("pyheapctl", command, "--"), common | options)
                self.assertEqual(zsh.get(command, set()), options)

    def test_help_of_each(self):
        """Each command has its own help, however it is asked for: its line of the whole help, and the options that it has."""
        commands, whole = help_commands(), help_of("pyheapctl", "--help")
        common = set(help_options("pyheapctl")) - set(re.findall(OPTION, " ".join(commands.values())))
        for command, arguments in commands.items():
            with self.subTest(command):
                own = help_of("pyheapctl", "help", command)
                self.assertEqual(own.splitlines()[0], f"usage: pyheapctl [--socket PATH] {command} {arguments}")
                self.assertIn(own.splitlines()[2], whole)
                options = own.split("options:")[1].split("exit codes")[0]
                self.assertEqual(set(re.findall(OPTION, options)),
                                 common | set(re.findall(OPTION, arguments)))
                self.assertEqual(help_of("pyheapctl", command, "--help"), whole if command == "help" else own)

    def test_keys_of_json(self):
        said = help_of("pyheapctl", "--help")
        for command in ("ls", "clients"):
            keys = re.search(rf"  {command} +a list of \{{(.*?)\}}", said).group(1)
            self.assertIn(f"A list of {{{keys}}}", one_spaced(page("pyheapctl.1")["JSON"]))


class Calls(unittest.TestCase):
    def exported(self):
        found = symbols(read("client/libpyheap.sym"), r"^\t(pyheap_\w+);")
        self.assertGreaterEqual(len(found), 30)
        return found

    def named(self):
        """Call to the pages that it is found by."""
        found = {}
        for name in pages(3):
            for call in page_names(name):
                if call != "pyheap":
                    found.setdefault(call, []).append(name)
        return found

    def test_a_page_for_each(self):
        macros = symbols(header(), r"^#define (pyheap_[a-z_]+)\(")
        self.assertEqual(set(self.named()), self.exported() | macros)
        for call, names in self.named().items():
            self.assertEqual(len(names), 1, call)

    def test_the_page_says_something(self):
        for call, (name,) in self.named().items():
            with self.subTest(call):
                self.assertRegex(page(name)["DESCRIPTION"], rf"\*{call}\*\(\)")

    def test_overview(self):
        """pyheap(3) leads to every page and lists what programs call."""
        table = page("pyheap.3")["DESCRIPTION"]
        for name in pages(3):
            if name == "pyheap.3":
                continue
            self.assertIn(f"*{name[:-2]}*(3)", table)
            if name != "pyheap_inline.3":
                for call in page_names(name):
                    self.assertRegex(table, rf"\*{call}\*(,|\n)", name)

    def test_declarations(self):
        """What a synopsis declares stands in the header."""
        declared = one_spaced(without_comments(header()))
        n = 0
        for name in pages(3):
            for block in re.findall(r"^```\n(.*?)^```", page(name)["SYNOPSIS"], flags=re.M | re.S):
                for line in re.findall(r"^\w.*;", block, flags=re.M):
                    if "pyheap_stats(" not in line and "struct" not in line:
                        self.assertIn(one_spaced(line), declared, name)
                        n += 1
        self.assertGreaterEqual(n, 38)

    def test_structs(self):
        """The public structs are shown as the header has them; --write writes them anew."""
        text = read("doc/pyheap_stats.3.scd")
        self.assertIn("# PYHEAP_STATS\n\n" + structs_text() + "# RETURN VALUE\n", text)
        shown = one_spaced(read("doc/pyheap_type.3.scd"))
        for line in without_comments(struct_text("pyheap_type_spec")).splitlines():
            self.assertIn(one_spaced(line), shown)

    def test_errors_of_each(self):
        """A call's page lists the errors that the header lists of it."""
        n = 0
        commented = re.compile(r"^/\*\n((?: \*.*\n)+?) \*/\n[a-z][\w *]*?(pyheap_\w+)\(", flags=re.M)
        for comment, call in commented.findall(header()):
            for line in re.findall(r"^ \* ((?:-E[A-Z]+(?:, )?)+)  ", comment, flags=re.M):
                for error in line.split(", "):
                    self.assertIn(error, read("doc", self.named()[call][0] + ".scd"), call)
                    n += 1
        self.assertGreaterEqual(n, 40)

    def test_errors(self):
        """pyheap_strerror(3) has the sentences that the library has; --write writes them anew."""
        self.assertGreaterEqual(len(errors()), 20)
        self.assertEqual("\n" + errors_text(), page("pyheap_strerror.3")["ERRORS OF THE LIBRARY"])

    def test_debian_symbols(self):
        self.assertEqual(symbols(read("debian/libpyheap0.symbols"), r"^ (pyheap_\w+)@PYHEAP_0 "), self.exported())


class Security(unittest.TestCase):
    """What SECURITY.md says that a promise is shown by is there: tests, and functions in them."""

    def sources(self):
        """Test name to the text of its source."""
        found = {}
        for folder, _, names in os.walk(os.path.join(SOURCE, "tests")):
            for name in names:
                if name.endswith((".c", ".py")):
                    stem = re.sub(r"^test_|\.(c|py)$", "", name).replace("_", "-")
                    found.setdefault(stem, "")
                    found[stem] += read(os.path.relpath(os.path.join(folder, name), SOURCE))
        for unit in ("dsession", "work", "store"):  # in tests/unit/daemon, called daemon-NAME
            found["daemon-" + unit] = found[unit]
        found["daemon-fuzz"], found["scribble"] = found["fuzz-daemon"], found["scribbler"]
        return found

    def test_what_shows_it(self):
        sources, n = self.sources(), 0
        text = one_spaced(read("SECURITY.md").split("## Whatever a client does")[1].split("\n## ")[0])
        for shown in re.findall(r"- Shown by: (.*?) - Not promised: ", text):
            for name, functions in re.findall(r"`([a-z_-]+)`(?: \(((?:`\w+`(?:, )?)+)\))?", shown):
                name = name.replace("_", "-")
                self.assertIn(name, sources)
                for function in re.findall(r"`(\w+)`", functions):
                    is_there = re.search(rf"START_TEST\({function}\)|def {function}\(", sources[name])
                    self.assertTrue(is_there, name + ": " + function)
                    n += 1
        self.assertGreaterEqual(n, 40)
        self.assertEqual(text.count("Shown by:"), 9)
        self.assertEqual(text.count("Not promised:"), 9)


class Pages(unittest.TestCase):
    def test_installed(self):
        """meson's list is what there is."""
        listed = re.search(r"man_pages = \[(.*?)\]", read("doc/meson.build"), flags=re.S).group(1)
        self.assertEqual(sorted(re.findall(r"'([^']*)'", listed)), sorted(pages(1) + pages(3) + pages(7) + pages(8)))

    def test_see_also(self):
        """What a page of ours leads to is there."""
        there = {(call, section) for section in (1, 3, 7, 8) for name in pages(section) for call in page_names(name)}
        there |= {(name[:-2], int(name[-1])) for section in (1, 3, 7, 8) for name in pages(section)}
        for section in (1, 3, 7, 8):
            for name in pages(section):
                for call, number in re.findall(r"\*(pyheap\w*)\*\((\d)\)", read("doc", name + ".scd")):
                    self.assertIn((call, int(number)), there, name)


if __name__ == "__main__":
    if sys.argv[1:] == ["--write"]:
        write_pages()
    else:
        unittest.main()
