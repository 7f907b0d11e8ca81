"""Price tables, capability matrices, and the rules that both are written in."""

import time

IMPORTED_AT_NS = time.time_ns()
"""When this process imported the package. `loading.stored_books` asks whether the code has changed since."""
