"""HotSpot's methods and classes: each is what it claims only if its class has its constant pool."""

from __future__ import annotations

from corefilt.plan.fit.runtimes.reader import LostError, TooMuchError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from corefilt.plan.fit.runtimes.hotspot import Structures
    from corefilt.plan.fit.runtimes.reader import MemoryReader

# A method's bytecode has 64 KiB at most, and its tables as much again.
MOST_OF_A_METHOD = 1 << 19
MOST_OF_FIELDS = 1 << 15


class Metadata:
    """Keeps methods with their names, classes with theirs."""

    def __init__(self, reader: MemoryReader, vm: Structures) -> None:
        """Look the offsets up. Raises LostError."""
        self._reader, self._vm = reader, vm
        self._const_method = vm.offset("Method", "_constMethod")
        self._constants = vm.offset("ConstMethod", "_constants")
        self._size = vm.offset("ConstMethod", "_constMethod_size")
        self._name_index = vm.offset("ConstMethod", "_name_index")
        self._signature_index = vm.offset("ConstMethod", "_signature_index")
        self._number = vm.offset("ConstMethod", "_method_idnum")
        self._methods = vm.offset("InstanceKlass", "_methods")
        self._methods_data = vm.offset("Array<Method*>", "_data")
        self._holder = vm.offset("ConstantPool", "_pool_holder")
        self._length = vm.offset("ConstantPool", "_length")
        self._pool_of = vm.offset("InstanceKlass", "_constants")
        self._fields = vm.offset("InstanceKlass", "_fields", "_fieldinfo_stream")
        self._klass_name = vm.offset("Klass", "_name")
        self._symbol_length, self._symbol_body = vm.offset("Symbol", "_length"), vm.offset("Symbol", "_body")
        self._method, self._const, self._pool = (vm.size(kind) for kind in ("Method", "ConstMethod", "ConstantPool"))
        self._klass = vm.size("InstanceKlass")
        self._known: dict[int, bool] = {}
        self._klasses: set[int] = set()
        self._symbols: set[int] = set()

    def keep_method(self, at: int) -> bool:
        """Keep a method with all that names its frames; whether it is one."""
        if at < 4096 or at & 7 or at in self._known:
            return self._known.get(at, False)
        if self._reader.memory.find(at) is None:
            return False
        try:
            self._keep(at)
        except TooMuchError:
            raise
        except LostError:
            self._known[at] = False
            return False
        self._known[at] = True
        return True

    def _keep(self, method: int) -> None:
        reader = self._reader
        const = reader.pointer(method + self._const_method)
        pool = reader.pointer(const + self._constants)
        holder = reader.pointer(pool + self._holder)
        if const & 7 or pool & 7 or holder & 7 or reader.pointer(holder + self._pool_of) != pool:
            raise LostError(f"{method:#x} is not a method")
        length = reader.number(const + self._size, 4) * 8
        if not self._const <= length <= MOST_OF_A_METHOD:
            raise LostError(f"{method:#x} is not a method")
        entries = reader.number(pool + self._length, 4)
        indices = [reader.number(const + at, 2) for at in (self._name_index, self._signature_index)]
        if max(indices) >= entries:
            raise LostError(f"{method:#x} is not a method")
        reader.keep(method, self._method)
        reader.keep(const, length)
        reader.keep(pool, self._pool)
        for index in indices:
            entry = pool + self._pool + 8 * index
            reader.keep(entry, 8)
            self.keep_symbol(reader.pointer(entry) & ~1)
        self.keep_klass(holder)
        # To a ConstMethod, its Method is the one that its class has under its number.
        methods = reader.pointer(holder + self._methods)
        reader.keep(methods, 8)
        reader.keep(methods + self._methods_data + 8 * reader.number(const + self._number, 2), 8)

    def keep_klass(self, klass: int) -> None:
        """Keep a class and its name. Raises LostError."""
        if klass in self._klasses:
            return
        name = self._reader.pointer(klass + self._klass_name)
        self.keep_symbol(name)
        self._klasses.add(klass)
        self._reader.keep(klass, self._klass)
        # jhsdb counts the fields of every class that it meets, by walking through all of them.
        fields = self._reader.pointer(klass + self._fields)
        self._reader.keep(fields, 8 + 2 * min(self._reader.number(fields, 4), MOST_OF_FIELDS))

    def keep_symbol(self, symbol: int) -> bytes:
        """Keep a symbol; returns its text. Raises LostError."""
        length = self._reader.number(symbol + self._symbol_length, 2)
        found = self._reader.data(symbol + self._symbol_body, length)
        if not found or symbol & 7:
            raise LostError(f"{symbol:#x} is not a symbol")
        self._reader.keep(symbol, self._symbol_body + length)
        return found
