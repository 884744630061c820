"""An option of numba for kernels that run once per row."""

from typing import Any

# No references to arrays are counted: in a function of many arrays and few other instructions that
# takes longer than all else. Its callers hold the arrays, and it makes and returns none.
UNCOUNTED: dict[str, Any] = {"_nrt": False}
