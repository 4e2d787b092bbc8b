"""The program at a pseudo terminal, as a person has it: type, and wait for what appears."""

from __future__ import annotations

import codecs
import os
import select
import subprocess
import sys
import time


class Typed:
    """`hanllama WORDS` at a terminal of its own; both are gone when the `with` ends."""

    def __init__(self, *words: str, **environment: str) -> None:
        import pty

        self.master, slave = pty.openpty()
        command = [sys.executable, "-m", "hanllama", *words]
        settings = {**os.environ, "TERM": "xterm", "PYTHONIOENCODING": "utf-8", **environment}
        self.process = subprocess.Popen(
            command, stdin=slave, stdout=slave, stderr=slave, env=settings
        )
        os.close(slave)
        # A character's bytes may come in two readings.
        self.decode = codecs.getincrementaldecoder("utf-8")("replace").decode
        self.seen, self.looked = "", 0

    def __enter__(self) -> Typed:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.wait()
        os.close(self.master)

    def until(self, words: str, seconds: float = 120) -> str:
        """What appears from the last place looked at until `words` do."""
        begin, until = self.looked, time.monotonic() + seconds
        while words not in self.seen[begin:]:
            assert time.monotonic() < until, self.seen
            self.read()
        self.looked = self.seen.index(words, begin) + len(words)
        return self.seen[begin : self.looked]

    def read(self) -> None:
        """Whatever the program has written by now; waits a moment for it."""
        if select.select([self.master], [], [], 0.1)[0]:
            self.seen += self.decode(os.read(self.master, 65536))

    def shows(self, words: str, seconds: float) -> bool:
        """Whether `words` appear in time."""
        try:
            self.until(words, seconds)
        except AssertionError:
            return False
        return True

    def type(self, text: str) -> None:
        """Press these keys."""
        os.write(self.master, text.encode())
