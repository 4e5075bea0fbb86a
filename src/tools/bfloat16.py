"""bfloat16 in numpy, as uint16 bit patterns: the upper half of a float32, rounded to nearest, ties to even."""
import numpy as np


def widen(bits):
    return (bits.astype(np.uint32) << 16).view(np.float32)


def round_to_bfloat16(values):
    """Finite values only: a NaN could round to infinity."""
    bits = np.ascontiguousarray(values, dtype=np.float32).view(np.uint32)
    return ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype(np.uint16)
