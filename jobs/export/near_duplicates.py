"""Which pictures look nearly the same, told from small signatures of them. Pure.

A signature has three parts, in this order: 64 bits of a perceptual hash (the coarse shapes), 256 bits of a finer one,
and the mean colours of three by three fields. Two pictures are near when all three are.
"""

from __future__ import annotations

import hashlib
from array import array

import numpy as np

#: Bytes of the parts of a signature, and of the whole.
COARSE, FINE, COLOURS = 8, 32, 27
SIGNATURE = COARSE + FINE + COLOURS
#: Bits in which the hashes of two near pictures differ at most.
COARSE_BITS, FINE_BITS = 7, 20
#: Levels of 255 by which a colour of two near pictures differs at most.
LEVELS = 16

_BYTE = 256


class NearDuplicates:
    """The pictures that came so far and are no duplicates themselves: 150 bytes of memory each.

    Two coarse hashes that differ in at most seven bits have one of their eight bytes in common, so that only pictures
    which share a byte at its place are compared, and none is overlooked.
    """

    def __init__(self) -> None:
        self._hashes = array("Q")  # the coarse ones
        self._rows = array("Q")  # hashes of what pictures of one row have in common
        self._signatures = bytearray()
        self._names, self._ends = bytearray(), array("Q", [0])
        self._buckets = tuple(array("I") for _ in range(COARSE * _BYTE))  # by place and byte: pictures

    def add(self, name: str, row: str, signature: bytes) -> None:
        """A picture that stays, and others may be near to."""
        for place, byte in enumerate(signature[:COARSE]):
            self._buckets[place * _BYTE + byte].append(len(self._hashes))
        self._hashes.append(int.from_bytes(signature[:COARSE]))
        self._rows.append(_hash(row))
        self._signatures += signature
        self._names += name.encode()
        self._ends.append(len(self._names))

    def find(self, row: str, signature: bytes) -> str | None:
        """The name of the first picture that is near to this one, of another row; None: there is none."""
        candidates = self._like_in_coarse(signature)
        if not len(candidates):
            return None
        mine = np.frombuffer(signature, np.uint8)
        theirs = np.frombuffer(self._signatures, np.uint8).reshape(-1, SIGNATURE)[candidates]
        fine = slice(COARSE, COARSE + FINE)
        bits = np.bitwise_count(theirs[:, fine] ^ mine[fine]).sum(axis=1)
        levels = np.abs(theirs[:, fine.stop :].astype(np.int16) - mine[fine.stop :]).max(axis=1)
        others = np.frombuffer(self._rows, np.uint64)[candidates] != _hash(row)
        near = candidates[(bits <= FINE_BITS) & (levels <= LEVELS) & others]
        if not len(near):
            return None
        first = int(near.min())
        return self._names[self._ends[first] : self._ends[first + 1]].decode()

    def _like_in_coarse(self, signature: bytes) -> np.ndarray[tuple[int], np.dtype[np.uint32]]:
        """The pictures whose coarse hash is near, some of them twice."""
        hashes = np.frombuffer(self._hashes, np.uint64)
        mine = np.uint64(int.from_bytes(signature[:COARSE]))
        found = [np.empty(0, np.uint32)]
        for place, byte in enumerate(signature[:COARSE]):
            if bucket := self._buckets[place * _BYTE + byte]:
                them = np.frombuffer(bucket, np.uint32)
                found.append(them[np.bitwise_count(hashes[them] ^ mine) <= COARSE_BITS])
        return np.concatenate(found)


def _hash(text: str) -> int:
    return int.from_bytes(hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest())
