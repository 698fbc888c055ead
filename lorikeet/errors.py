"""Every error that Lorikeet raises on purpose. Anything else that escapes is a bug and shows a traceback.

LorikeetError            exit code 2: the user's input or a missing tool; one line what, one line the cure
├── RecipeError          the recipe, a suite or a persona cannot be used as it is written
├── DataError            rows that cannot be read or must not be trained on
├── ModelError           a base, adapter or GGUF that is missing, damaged or of another shape
├── MachineError         too little disk or memory, or a tool that is not installed
├── BusyError            another run holds the folder
└── RefusedError         exit code 3: a check or the release gate says no
"""


class LorikeetError(Exception):
    """Something the user can mend.

    message: what happened, with the place (file, line, key).
    cure: what to do about it, in one line.
    """

    exit_code = 2

    def __init__(self, message: str, cure: str) -> None:
        super().__init__(message)
        self.message = message
        self.cure = cure

    def __reduce__(self) -> tuple[type["LorikeetError"], tuple[str, str]]:
        """What pickling keeps: an error may come from another process or machine."""
        return type(self), (self.message, self.cure)


class RecipeError(LorikeetError):
    """The recipe, a suite or a persona cannot be used as it is written."""


class DataError(LorikeetError):
    """Rows that cannot be read or must not be trained on."""


class ModelError(LorikeetError):
    """A base, adapter or GGUF that is missing, damaged or of another shape."""


class MachineError(LorikeetError):
    """Too little disk or memory, or a tool that is not installed."""


class BusyError(LorikeetError):
    """Another run holds the folder."""


class RefusedError(LorikeetError):
    """A check or the release gate says no."""

    exit_code = 3


def first_line(error: BaseException) -> str:
    """The first line of what a library's error says; its kind where it says nothing."""
    return next(iter(str(error).strip().splitlines()), type(error).__name__)
