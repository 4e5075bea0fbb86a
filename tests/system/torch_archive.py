"""Files as torch.save writes them, made byte by byte, so that any part can be wrong."""
import struct
import zlib


def text(value):
    data = value if isinstance(value, bytes) else value.encode()
    return b"X" + struct.pack("<I", len(data)) + data


def whole(value):
    if -2**31 <= value < 2**31:
        return b"J" + struct.pack("<i", value)
    data = value.to_bytes(8, "little", signed=True)
    return b"\x8a\x08" + data


def numbers(values):
    return b"(" + b"".join(map(whole, values)) + b"t"


def named(module, name):
    return b"c%s\n%s\n" % (module.encode(), name.encode())


HOOKS = named("collections", "OrderedDict") + b")R"


def storage(key="0", kind="FloatStorage", elements=4, before=b""):
    return b"(" + text("storage") + named("torch", kind) + text(key) + text("cpu") + whole(elements) + b"t" + before + b"Q"


def tensor(shape=(4,), strides=(1,), first=0, of=None, more=b"", **described):
    return (named("torch._utils", "_rebuild_tensor_v2") + b"(" + (of or storage(**described)) + whole(first) + numbers(shape)
            + numbers(strides) + b"\x89" + HOOKS + more + b"tR")


def state_dict(*pairs, after=b"", begin=b"\x80\x02"):
    """Of alternating names and values, which are opcodes."""
    return begin + b"}(" + b"".join(text(part) if i % 2 == 0 else part for i, part in enumerate(pairs)) + b"u" + after + b"."


def dict_with(opcodes):
    """A state dict that has what these opcodes make where a tensor should be."""
    return state_dict("w", opcodes)


class Archive:
    """A zip archive of stored entries. What is to be wrong is set in the entries' fields, or in the bytes."""

    def __init__(self, pickle, storages=None, folder="pytorch_model/"):
        self.folder, self.entries = folder, []
        self.add("data.pkl", pickle)
        self.add("byteorder", b"little")
        for key, data in (storages if storages is not None else {"0": bytes(16)}).items():
            self.add(f"data/{key}", data)
        self.add("version", b"3\n")

    def add(self, name, data, **fields):
        """@param fields values of the directory (flags, method, crc, stored, size, header, name), or of the entry's own header (local_...)"""
        self.entries.append({"name": self.folder + name, "data": data, **fields})
        return self

    def set(self, place, **fields):
        next(entry for entry in self.entries if entry["name"] == self.folder + place).update(fields)
        return self

    def without(self, name):
        self.entries = [entry for entry in self.entries if entry["name"] != self.folder + name]
        return self

    def bytes(self, **end):
        """@param end values of the end of the directory: disk, entries, size, begin, comment"""
        out, directory = b"", b""
        for entry in self.entries:
            data, name = entry["data"], entry["name"].encode()
            get = lambda key, value: entry.get(key, value)
            fields = (get("flags", 0x800), get("method", 0), 0, 0, get("crc", zlib.crc32(data)), get("stored", len(data)), get("size", len(data)))
            local = (get("local_flags", fields[0]), get("local_method", fields[1]), *fields[2:5], get("local_size", fields[5]),
                     get("local_size", fields[6]))
            local_name = get("local_name", entry["name"]).encode()
            padding = -(len(out) + 34 + len(name)) % 64  # torch aligns what follows
            extra = b"FB" + struct.pack("<H", padding) + b"Z" * padding
            directory += struct.pack("<4sHHHHHHIIIHHHHHII", b"PK\1\2", 0, 0, *fields, len(name), 0, 0, get("disk", 0), 0, 0,
                                     get("header", len(out))) + name
            out += struct.pack("<4sHHHHHIIIHH", b"PK\3\4", 0, *local, len(local_name), len(extra)) + local_name + extra + data
        count = end.get("entries", len(self.entries))
        return out + directory + struct.pack("<4sHHHHIIH", b"PK\5\6", end.get("disk", 0), 0, count, count, end.get("size", len(directory)),
                                             end.get("begin", len(out)), len(end.get("comment", b""))) + end.get("comment", b"")
