"""The run folder and what it rests on: atomic verified files, and rename tables for foreign weights."""

from chainrule.checkpoint.rename import Rename
from chainrule.checkpoint.run import Checkpoint, Newest, RunFolder
from chainrule.checkpoint.store import read_tensors, save_folder, tensor_bytes, verify_folder
from chainrule.core.files import write_file

__all__ = [
    "Checkpoint",
    "Newest",
    "Rename",
    "RunFolder",
    "read_tensors",
    "save_folder",
    "tensor_bytes",
    "verify_folder",
    "write_file",
]
