"""What is running, and what is left: a bar on a terminal, plain lines elsewhere. On standard error."""

import shutil
import sys
import time

WIDTH = 24


class Progress:
    def __init__(self, total):
        self.total, self.done, self.began = total, 0, time.monotonic()
        self.terminal = sys.stderr.isatty()
        self.last = None

    def now(self, what):
        """What is running from now on."""
        if not self.terminal:
            if what != self.last:
                print(f"[{self.done}/{self.total}] {what}", file=sys.stderr, flush=True)
            self.last = what
            return
        part = min(self.done / max(self.total, 1), 1)
        bar = ("#" * round(part * WIDTH)).ljust(WIDTH, "-")
        line = f"[{bar}] {part:4.0%} {self._left():>12}  {what}"
        print("\r\x1b[K" + line[: shutil.get_terminal_size().columns - 1], end="", file=sys.stderr, flush=True)

    def step(self, count=1):
        self.done += count

    def more(self, count):
        """There is more to do than was known."""
        self.total += count

    def say(self, text):
        """A line that stays."""
        self.clear()
        print(text, file=sys.stderr, flush=True)

    def clear(self):
        if self.terminal:
            print("\r\x1b[K", end="", file=sys.stderr, flush=True)

    def _left(self):
        if not self.done:
            return ""
        seconds = (time.monotonic() - self.began) / self.done * (self.total - self.done)
        return f"{seconds / 60:.0f} min left" if seconds > 90 else f"{seconds:.0f} s left"
