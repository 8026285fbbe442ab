"""Says where a thread is, for lines about requests that take long; run in an interpreter if wanted."""

import traceback


def format_stack(frame):
    """Formats the stack that ends with this frame, or the end of a very deep one."""
    return "".join(traceback.format_stack(frame, 50))
