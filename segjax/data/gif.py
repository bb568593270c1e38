"""How large a GIF's frames are and how many: Pillow makes room for them before it tells."""

import struct
from typing import IO

_EXTENSION, _IMAGE = b"!", b","


def frames(stream: IO[bytes]) -> tuple[int, int, int]:
    """Return height and width that hold the screen and the first frame, and the number of frames.

    The number is 2 for more than one: counting goes no further. The stream is left anywhere.

    Raises:
        ValueError: Nothing of a GIF, or no frame.
    """
    head = stream.read(13)
    if len(head) < 13 or not head.startswith(b"GIF8"):
        raise ValueError("no header of a GIF")
    width, height, flags = struct.unpack("<HHB", head[6:11])
    _skip_table(stream, flags)
    count = 0
    while count < 2:
        kind = stream.read(1)
        if kind == _EXTENSION:
            stream.read(1)
        elif kind == _IMAGE and len(place := stream.read(9)) == 9:
            left, top, wide, tall, flags = struct.unpack("<HHHHB", place)
            width, height, count = max(width, left + wide), max(height, top + tall), count + 1
            _skip_table(stream, flags)
            stream.read(1)  # bits of the first code
        else:  # the end, or no GIF from here on
            break
        while size := stream.read(1)[:1]:
            if size == b"\0":
                break
            stream.read(size[0])
    if not count:
        raise ValueError("no frame in it")
    return height, width, count


def _skip_table(stream: IO[bytes], flags: int) -> None:
    """Read over a table of colours, if there is one."""
    if flags & 0x80:
        stream.read(3 << (flags & 7) + 1)
