"""Read pickles of `torch.save` and of NumPy arrays, of which only these are taken, in bounded room.

A pickle is a program. Python's own reader runs it: it calls what the program names, makes room for
whatever number it says, and compares keys that may take for ever. This one knows dictionaries,
lists, plain values, tensors and arrays (see `arrays`), and counts what it does.
"""

import pickletools
from collections.abc import Callable, Iterator
from typing import IO, Any, NamedTuple

import ml_dtypes
import numpy as np

from segjax.errors import DataError
from segjax.pretrained import arrays
from segjax.pretrained.arrays import MAX_AXES, Name

MAX_OPERATIONS = 1 << 20
"""Of a pickle; a tensor takes about 40."""
MAX_READ = 16 << 20
"""Bytes that are read at once: no pickle, and no directory of an archive, is longer."""
MAX_VISITS = 1 << 18
MAX_DEPTH = 32
"""Of dictionaries and lists in each other."""
MAX_TENSORS = 1 << 17
MAX_NAME = 1000
"""Characters of a tensor's dotted name."""

DTYPES: dict[str, Any] = {
    "DoubleStorage": np.float64,
    "FloatStorage": np.float32,
    "HalfStorage": np.float16,
    "BFloat16Storage": ml_dtypes.bfloat16,
    "LongStorage": np.int64,
    "IntStorage": np.int32,
    "ShortStorage": np.int16,
    "CharStorage": np.int8,
    "ByteStorage": np.uint8,
    "BoolStorage": np.bool_,
}


class Storage(NamedTuple):
    """A run of `count` numbers in the file, which tensors share."""

    dtype: str
    key: str
    count: int


class Tensor(NamedTuple):
    """Which numbers of a storage are a tensor; offset and strides count numbers."""

    storage: Storage
    offset: int
    size: tuple[int, ...]
    stride: tuple[int, ...]


class Bounded:
    """A file of which at most `most` bytes are read at once while `bounded`."""

    def __init__(self, file: IO[bytes], most: int = MAX_READ):
        self.file, self.bounded, self.most = file, True, most
        self.seek, self.tell, self.seekable = file.seek, file.tell, file.seekable

    def read(self, count: int = -1) -> bytes:
        """Read as the file does.

        Raises:
            DataError: More than there may be at once.
        """
        if self.bounded:
            if count > self.most:
                raise DataError(
                    f"it asks for {count:,} bytes at once, at most {self.most:,} are read"
                )
            content = self.file.read(self.most + 1 if count < 0 else count)
            if len(content) > self.most:
                raise DataError(f"it asks for more than {self.most:,} bytes at once")
            return content
        return self.file.read(count)

    def readline(self) -> bytes:
        """Read to the end of the line."""
        return self.file.readline(MAX_READ)


def flatten(content: Any) -> Iterator[tuple[str, Tensor | np.ndarray]]:
    """Yield `(dotted name, tensor or array)` of all that dictionaries, lists and tuples hold.

    Raises:
        DataError: Too deep, too many, or names too long; something may hold itself.
    """
    visits, scanned, tensors = 0, 0, 0
    rest: list[tuple[str, Any, int]] = [("", content, 0)]
    while rest:
        name, value, depth = rest.pop()
        visits += 1
        many = visits > MAX_VISITS or scanned > 4 * MAX_OPERATIONS
        if many or depth > MAX_DEPTH or len(name) > MAX_NAME:
            raise DataError(
                f"it nests more than {MAX_VISITS:,} dictionaries, lists and tensors, {MAX_DEPTH} "
                f"levels or names of {MAX_NAME:,} characters"
            )
        if isinstance(value, (Tensor, arrays.Box)):
            tensors += 1
            if tensors > MAX_TENSORS:
                raise DataError(f"it names more than {MAX_TENSORS:,} tensors")
            yield name, value if isinstance(value, Tensor) else value.whole()
        elif isinstance(value, (dict, list, tuple)):
            items = value.items() if isinstance(value, dict) else enumerate(value)
            inside = [
                (f"{name}.{_word(key)}" if name else _word(key), x, depth + 1)
                for key, x in items
                if isinstance(x, (dict, list, tuple, arrays.Box))
            ]
            scanned += len(value)
            rest += reversed(inside)


def _word(key: Any) -> str:
    return str(key)[: MAX_NAME + 1]


class Ordered(dict):
    """Stand for an OrderedDict; attributes, such as a state dict's `_metadata`, are dropped."""

    __slots__ = ()


ORDERED = Name("collections", "OrderedDict")
REBUILD = (
    Name("torch._utils", "_rebuild_tensor_v2"),
    Name("torch._utils", "_rebuild_parameter"),
)
"""All that a pickle may name, beside `torch.FloatStorage` and its like, and `arrays.CALLS`."""


def load(file: Any, *, room: int = 4 * MAX_READ) -> Any:
    """Return what the pickle at the beginning of a file describes; the file is left behind it.

    Args:
        file: Has `read` and `readline`; a `Bounded` one, where its size is not known.
        room: How many bytes its arrays may have together.

    Raises:
        DataError: It asks for anything else, such as a call, or for too much.
    """
    machine = Machine(room)
    for count, (operation, argument, _) in enumerate(pickletools.genops(file)):
        if count > MAX_OPERATIONS:
            raise DataError(f"its pickle has more than {MAX_OPERATIONS:,} operations")
        machine.do(operation.name, argument)
    return machine.pop()


def _named(module: Any, name: Any) -> Name | str:
    """Return what stands for something named: a storage's type is its name.

    Raises:
        DataError: It is something else, which stays untouched.
    """
    found = Name(str(module), str(name))
    if found == ORDERED or found in REBUILD or found in arrays.NAMES:
        return found
    if module == "torch" and name in DTYPES:
        return str(name)
    raise DataError(
        f"its pickle asks for {found.module[:100]}.{found.name[:100]}, which may do anything and "
        "is not run (only tensors and arrays in dictionaries and lists are read)"
    )


def _storage(pid: Any) -> Storage:
    """Return the storage that a tensor refers to."""
    kind, dtype, key, _, count, *rest = pid
    if kind != "storage" or dtype not in DTYPES or any(rest):
        raise DataError(f"its pickle refers to {str(kind)[:100]!r}, not to a storage")
    if not isinstance(key, (str, int)) or not _is_count(count):
        raise DataError("a storage in its pickle has no size")
    return Storage(dtype, str(key), count)


def _is_count(value: Any) -> bool:
    return type(value) is int and -(2**62) < value < 2**62


def _is_key(value: Any) -> bool:
    """Say whether a dictionary finds it at once: numbers may be chosen to take for ever."""
    if type(value) is tuple:
        return len(value) <= MAX_AXES and all(type(x) is not tuple and _is_key(x) for x in value)
    if isinstance(value, int):
        return -(2**60) < value < 2**60
    return value is None or isinstance(value, (str, bytes, float)) and len(str(value)) <= 4096


def _tensor(arguments: tuple[Any, ...]) -> Tensor:
    """Return the tensor: of its storage, or of a parameter its value."""
    storage, *more = arguments
    if isinstance(storage, Tensor):
        return storage
    if not isinstance(storage, Storage):
        raise DataError(f"a tensor has no storage, but {type(storage).__name__}")
    offset, size, stride = more[:3]
    if not (isinstance(size, (tuple, list)) and isinstance(stride, (tuple, list))):
        raise DataError("a tensor has no size")
    if len(size) != len(stride) or len(size) > MAX_AXES:
        raise DataError(f"a tensor has {len(size)} axes and {len(stride)} strides")
    if not all(map(_is_count, (offset, *size, *stride))):
        raise DataError("the size of a tensor is no whole number")
    return Tensor(storage, offset, tuple(size), tuple(stride))


MARK = object()
CONSTANTS: dict[str, Callable[[], Any]] = {
    "NONE": lambda: None,
    "NEWTRUE": lambda: True,
    "NEWFALSE": lambda: False,
    "EMPTY_LIST": list,
    "EMPTY_SET": list,  # what is in a set has no name
    "EMPTY_TUPLE": tuple,
    "EMPTY_DICT": dict,
    "MARK": lambda: MARK,
}
VALUES = {
    "INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "FLOAT", "BINFLOAT",
    "UNICODE", "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8", "STRING", "BINBYTES",
    "SHORT_BINBYTES", "BINBYTES8", "BYTEARRAY8",
}  # fmt: skip
"""Operations that push the value which stands behind them."""
BYTE_STRINGS = ("BINSTRING", "SHORT_BINSTRING")
"""Text of Python 2, which is in UTF-8, or bytes; pickletools gives each byte as a sign."""
TUPLES = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}


class Machine:
    """The stack and the memory of a pickle that is being read."""

    def __init__(self, room: int) -> None:
        self.room = room
        self.stack: list[Any] = []
        self.memory: dict[int, Any] = {}

    def do(self, operation: str, argument: Any) -> None:
        """Do one operation.

        Raises:
            DataError: It is none that describes tensors, or something is missing for it.
        """
        if operation in CONSTANTS:
            self.stack.append(CONSTANTS[operation]())
        elif operation in VALUES:
            self.stack.append(argument)
        elif operation in BYTE_STRINGS:
            self.stack.append(arrays.text_or_bytes(argument.encode("latin-1")))
        elif operation in ("PUT", "BINPUT", "LONG_BINPUT"):
            if not 0 <= argument < 2**32:
                raise DataError("its pickle remembers too much")
            self.memory[argument] = self.top()
        elif operation == "MEMOIZE":
            self.memory[len(self.memory)] = self.top()
        elif operation in ("GET", "BINGET", "LONG_BINGET"):
            self.stack.append(self.memory[argument])
        elif operation in TUPLES:
            self.stack.append(tuple(self.pop() for _ in range(TUPLES[operation]))[::-1])
        elif operation == "GLOBAL":
            module, _, name = argument.partition(" ")
            self.stack.append(_named(module, name))
        elif operation == "STACK_GLOBAL":
            name, module = self.pop(), self.pop()
            self.stack.append(_named(module, name))
        elif operation == "INST":
            module, _, name = argument.partition(" ")
            self.call(_named(module, name), tuple(self.to_mark()))
        else:
            self.put_together(operation)

    def put_together(self, operation: str) -> None:
        """Do one of the operations that make something of what is on the stack."""
        if operation == "TUPLE":
            self.stack.append(tuple(self.to_mark()))
        elif operation == "LIST":
            self.stack.append(self.to_mark())
        elif operation == "DICT":
            self.stack.append({})
            self.set_items(self.to_mark(below=1))
        elif operation in ("APPEND", "APPENDS", "ADDITEMS"):
            items = [self.pop()] if operation == "APPEND" else self.to_mark()
            self.top(list).extend(items)
        elif operation == "SETITEM":
            self.set_items([self.pop(), self.pop()][::-1])
        elif operation == "SETITEMS":
            self.set_items(self.to_mark())
        elif operation == "REDUCE":
            arguments = self.pop(tuple)
            self.call(self.pop(), arguments)
        elif operation == "BUILD":  # attributes, such as a state dict's `_metadata`
            state, target = self.pop(), self.top()
            if isinstance(target, (arrays.Box, arrays.Dtype)):
                target.build(state)
                self.spend(target)
            else:
                self.top(Ordered)
        elif operation == "BINPERSID":
            self.stack.append(_storage(self.pop(tuple)))
        elif operation == "POP":
            self.pop(anything=True)
        elif operation == "POP_MARK":
            self.to_mark()
        elif operation == "DUP":
            self.stack.append(self.top())
        elif operation not in ("PROTO", "FRAME", "STOP"):
            raise DataError(f"its pickle asks for {operation}, which describes no tensor")

    def call(self, function: Any, arguments: tuple[Any, ...]) -> None:
        """Push what one of the few functions makes of its arguments."""
        if function in REBUILD:
            self.stack.append(_tensor(arguments))
        elif function in arrays.CALLS:
            self.stack.append(arrays.CALLS[function](*arguments))
            self.spend(self.stack[-1])
        elif function == ORDERED:
            self.stack.append(Ordered())
            pairs = list(arguments[0]) if arguments else []
            self.set_items([x for key, value in pairs for x in (key, value)])
        else:
            raise DataError(f"its pickle calls {str(function)[:100]!r}, which is no function")

    def spend(self, made: Any) -> None:
        """Count what an array or its bytes take; one may be asked for a million times."""
        if isinstance(made, bytes):
            self.room -= len(made)
        elif isinstance(made, arrays.Box) and made.array is not None:
            self.room -= made.array.nbytes
        if self.room < 0:
            raise DataError("its arrays are much larger than the file")

    def pop(self, kind: type = object, *, anything: bool = False) -> Any:
        """Take what is on top of the stack, which is a `kind`."""
        value = self.stack.pop()
        if not isinstance(value, kind) or value is MARK and not anything:
            raise DataError(f"its pickle is damaged: a {type(value).__name__} where none may be")
        return value

    def top(self, kind: type = object) -> Any:
        """Return what is on top of the stack, which is a `kind`."""
        self.stack.append(value := self.pop(kind))
        return value

    def to_mark(self, *, below: int = 0) -> list[Any]:
        """Take what is above the last mark, and the mark; leave the `below` uppermost alone."""
        kept = [self.stack.pop() for _ in range(below)]
        items = []
        while (value := self.stack.pop()) is not MARK:
            items.append(value)
        self.stack += kept
        return items[::-1]

    def set_items(self, items: list[Any]) -> None:
        """Set keys and values, in turn, in the dictionary on top of the stack."""
        target = self.top(dict)
        for key, value in zip(items[::2], items[1::2], strict=True):
            if not _is_key(key):
                raise DataError(f"its pickle has a {type(key).__name__} for a key")
            target[key] = value
