"""What tells of a full disk."""

import errno


def is_full_disk(error: BaseException | None) -> bool:
    """Whether an error is about a full disk or quota, or a file too large for the disk: only a write is refused so."""
    return isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
