"""Says where a thread is, for the line about a slow request; run in each interpreter if wanted."""

import traceback


def format_stack(frame):
    """Formats the stack that ends with this frame."""
    return "".join(traceback.format_stack(frame))
