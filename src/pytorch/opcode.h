#pragma once
// The opcodes of Python's pickle language; Lib/pickletools.py of CPython describes each.

#include <cstdint>
#include <string>

namespace aimerge {

enum class Opcode : std::uint8_t {
    Mark = '(',
    Stop = '.',
    EmptyTuple = ')',
    Append = 'a',
    Appends = 'e',
    BinFloat = 'G',
    BinGet = 'h',
    BinInt = 'J',
    BinInt1 = 'K',
    BinInt2 = 'M',
    BinPersId = 'Q',
    BinPut = 'q',
    BinUnicode = 'X',
    Build = 'b',
    EmptyDict = '}',
    EmptyList = ']',
    Frame = 0x95,
    Global = 'c',
    Long1 = 0x8a,
    LongBinGet = 'j',
    LongBinPut = 'r',
    Memoize = 0x94,
    NewFalse = 0x89,
    NewTrue = 0x88,
    None = 'N',
    Proto = 0x80,
    Reduce = 'R',
    SetItem = 's',
    SetItems = 'u',
    ShortBinUnicode = 0x8c,
    StackGlobal = 0x93,
    Tuple = 't',
    Tuple1 = 0x85,
    Tuple2 = 0x86,
    Tuple3 = 0x87,
};

/// "INST" for 'i'; also of those that are not listed above.
std::string nameOf(Opcode opcode);

}  // namespace aimerge
