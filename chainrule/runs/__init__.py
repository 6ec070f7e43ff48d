"""Run folders, and the atomic, verified files that they are made of."""

from chainrule.core.files import write_file
from chainrule.runs.folder import Checkpoint, Newest, RunFolder
from chainrule.runs.store import save_folder, tensor_bytes, verify_folder

__all__ = ["Checkpoint", "Newest", "RunFolder", "save_folder", "tensor_bytes", "verify_folder", "write_file"]
