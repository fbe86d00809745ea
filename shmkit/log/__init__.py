"""A log of records in a file: appended by one process, replayed and followed by any number, whatever happens to them.

``LogWriter(path)`` appends; ``LogReader(path)`` gives every record from the first one on, and waits for new ones.  A
record is there whole or not at all: after a crash, or a loss of power, what was half written is found, reported and cut
off.  Records are bytes; ``shmkit.connect("file:///path")`` sends objects and arrays.
"""

from __future__ import annotations

from shmkit.log.layout import Tail
from shmkit.log.reader import LogReader, LogRecord
from shmkit.log.writer import LogWriter

__all__ = ["LogReader", "LogRecord", "LogWriter", "Tail"]
