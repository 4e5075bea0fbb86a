"""Makes an installed tree fit for a wheel: complete_tree.py PREFIX. Called by CMakeLists.txt beside this file.

- No symbolic links, which wheels cannot have, and no headers.
- libtorch's libraries get names of their own ("aimtorch_cpu.so" for "libtorch_cpu.so"), and no symbols that the loader shares among
  all libraries of a process: so `import torch` of any version and aimerge's libtorch do not meet.
- Libraries that distributions have and containers often lack, MPI's above all, are put in lib/machine/NAME/NAME. order.txt lists them,
  each after those that it needs. aimerge/_libraries.py loads those that the machine lacks.
"""
import pathlib
import re
import shutil
import struct
import subprocess
import sys

# Part of every Linux system of the glibc that the wheel asks for.
ALWAYS_THERE = re.compile(r"ld-linux-.*|lib(c|m|dl|rt|pthread|resolv|util|gcc_s|stdc\+\+)\.so\..*")
OF_TORCH = re.compile(r"lib(torch_cpu|c10|gomp|cupti|cudart)\.so.*")
SHT_DYNSYM = 11
UNIQUE, WEAK = 10, 2  # bindings of symbols
SECTION = struct.Struct("<IIQQQQIIQQ")
SYMBOL = struct.Struct("<IBBHQQ")


class Library:
    """An ELF file of 64 bits, little-endian, to be changed in place."""

    def __init__(self, path):
        self.path = path
        self.data = bytearray(path.read_bytes())
        first, = struct.unpack_from("<Q", self.data, 0x28)
        size, count, _ = struct.unpack_from("<HHH", self.data, 0x3A)
        self.sections = [SECTION.unpack_from(self.data, first + size * index) for index in range(count)]
        self.symbols = next(section for section in self.sections if section[1] == SHT_DYNSYM)
        self.strings = self.sections[self.symbols[6]]

    def rename(self, old, new):
        """In the names of libraries. @pre both are equally long"""
        begin, end = self.strings[4], self.strings[4] + self.strings[5]
        old, new = b"\0" + old.encode() + b"\0", b"\0" + new.encode() + b"\0"
        at = self.data.find(old, begin, end)
        if at >= 0:
            self.data[at:at + len(old)] = new

    def share_no_symbols(self):
        begin, end = self.symbols[4], self.symbols[4] + self.symbols[5]
        for at in range(begin, end, SYMBOL.size):
            info = self.data[at + 4]
            if info >> 4 == UNIQUE:
                self.data[at + 4] = WEAK << 4 | info & 15

    def write(self):
        self.path.write_bytes(self.data)


def dynamic_names(path, tag):
    text = subprocess.run(["readelf", "-dW", path], check=True, capture_output=True, text=True).stdout
    return re.findall(rf"\({tag}\).*\[(.*)\]", text)


def found_by_loader(path):
    """{name: path} of all libraries that it needs, directly or not."""
    text = subprocess.run(["ldd", path], check=True, capture_output=True, text=True).stdout
    return dict(re.findall(r"^\s*(\S+) => (/\S+)", text, re.MULTILINE))


def replace_links(libraries):
    for link in [path for path in libraries.iterdir() if path.is_symlink()]:
        file = link.resolve()
        link.unlink()
        if dynamic_names(file, "SONAME") == [link.name]:
            shutil.copy(file, link)
    for path in list(libraries.glob("*.so*")):
        if dynamic_names(path, "SONAME") != [path.name] and not path.name.startswith("libaimerge"):
            path.unlink()


def make_torch_private(libraries):
    names = {path.name: "aim" + path.name[3:] for path in libraries.iterdir() if OF_TORCH.fullmatch(path.name)}
    for path in libraries.glob("*.so*"):
        library = Library(path)
        for old, new in names.items():
            library.rename(old, new)
        library.share_no_symbols()
        library.write()
        if path.name in names:
            path.rename(path.with_name(names[path.name]))


def carry_machine_libraries(prefix):
    libraries, machine = prefix / "lib/aimerge", prefix / "lib/machine"
    own = {path.name for path in libraries.glob("*.so*")}
    places, order = {}, []
    for path in [prefix / "bin/aimerge", *libraries.glob("*.so*")]:
        places.update(found_by_loader(path))

    def add(name):
        if name in order or ALWAYS_THERE.fullmatch(name):
            return
        for needed in dynamic_names(places[name], "NEEDED"):
            add(needed)
        if name not in own:
            order.append(name)

    for path in [prefix / "bin/aimerge", *sorted(libraries.glob("*.so*"))]:
        for name in dynamic_names(path, "NEEDED"):
            add(name)
    for name in order:
        (machine / name).mkdir(parents=True)
        shutil.copy(places[name], machine / name / name)
        # By name: dpkg may know /usr/lib/... as /lib/...
        package = subprocess.run(["dpkg-query", "-S", f"*/{pathlib.Path(places[name]).resolve().name}"], check=True,
                                 capture_output=True, text=True).stdout.split(":")[0]
        licence = prefix / "share/doc/aimerge/licences" / package / "copyright"
        licence.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(f"/usr/share/doc/{package}/copyright", licence)
    (machine / "order.txt").write_text("\n".join(order) + "\n", encoding="ascii")


def main(prefix):
    shutil.rmtree(prefix / "include", ignore_errors=True)
    shutil.rmtree(prefix / "lib/cmake", ignore_errors=True)
    tokenizers = prefix / "share/aimerge/tools/tokenizers"
    if tokenizers.is_symlink():
        tokenizers.unlink()
        (prefix / "lib/aimerge/tokenizers").rename(tokenizers)
    replace_links(prefix / "lib/aimerge")
    make_torch_private(prefix / "lib/aimerge")
    carry_machine_libraries(prefix)


if __name__ == "__main__":
    main(pathlib.Path(sys.argv[1]))
