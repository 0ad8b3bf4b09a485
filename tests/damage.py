"""Files that go wrong on disks and in transfers: one thing at a time, drawn at random."""

import gzip
import os
from pathlib import Path

import numpy as np

KINDS = ('truncated', 'flipped', 'header', 'sprinkled', 'cut out', 'inserted', 'zeroed')
TRANSFERS = ('doubled', 'line ends', 'seven bits', 'replaced')  # what programs do to whole files
LENGTH = ('truncated', 'cut out', 'inserted', 'doubled', 'line ends')  # show without a checksum
OTHERS = (  # what comes in place of a file
    b'',
    b'<!DOCTYPE html>\n<html><body>404 Not Found</body></html>\n',
    b'version https://git-lfs.github.com/spec/v1\noid sha256:' + b'0' * 64 + b'\nsize 12345\n',
    b'PK\x03\x04' + bytes(60),
    b'\xff\xd8\xff\xe0' + bytes(60),
    b'#!/bin/sh\nexit 1\n',
)


def damaged(content: bytes, kind: str, rng: np.random.Generator) -> bytes:
    """`content` with one thing wrong with it; it is not empty."""
    bytes_ = bytearray(content)
    at, length = int(rng.integers(len(bytes_))), int(rng.integers(1, 40))
    if kind == 'truncated':
        del bytes_[at:]
    elif kind == 'flipped':
        bytes_[at] ^= 1 << int(rng.integers(8))
    elif kind == 'header':
        bytes_[at % min(400, len(bytes_))] = int(rng.integers(256))
    elif kind == 'sprinkled':
        for place in rng.integers(len(bytes_), size=length):
            bytes_[place] = int(rng.integers(256))
    elif kind == 'cut out':
        del bytes_[at : at + length]
    elif kind == 'inserted':
        bytes_[at:at] = rng.bytes(length)
    elif kind == 'zeroed':
        bytes_[at : at + length] = bytes(len(bytes_[at : at + length]))
    else:
        return transferred(content, kind, rng)
    return bytes(bytes_)


def transferred(content: bytes, kind: str, rng: np.random.Generator) -> bytes:
    """`content` as a program leaves it that copies badly, or something else in its place."""
    if kind == 'doubled':
        return content + content
    if kind == 'line ends':
        return content.replace(b'\n', b'\r\n') if rng.integers(2) else content.replace(b'\r\n', b'\n')
    if kind == 'seven bits':
        return bytes(byte & 127 for byte in content)
    if kind != 'replaced':
        raise ValueError(kind)
    others = (*OTHERS, bytes(len(content)), rng.bytes(len(content)), gzip.compress(content, mtime=0))
    return others[rng.integers(len(others))]


def misplace(file: Path, rng: np.random.Generator) -> str:
    """Leaves no plain file in its place; returns what is there instead."""
    file.unlink()
    how = str(rng.choice(['nothing', 'folder', 'dangling link', 'circular link', 'pipe', 'device']))
    if how == 'folder':
        file.mkdir()
    elif how == 'dangling link':
        file.symlink_to('nowhere')
    elif how == 'circular link':
        file.symlink_to(file.name)
    elif how == 'pipe':
        os.mkfifo(file)
    elif how == 'device':
        file.symlink_to('/dev/zero')
    return how


def replace(file: Path, content: bytes, time_ns: int = 0) -> None:
    """Writes a file anew, with a time by which caches know it from the last one."""
    file.unlink(missing_ok=True)  # file systems wait for the disk where a file is written over
    file.write_bytes(content)
    if time_ns:
        os.utime(file, ns=(time_ns, time_ns))
