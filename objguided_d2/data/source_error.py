"""The error of every reader of other people's files."""


class SourceError(Exception):
    """A file or download that cannot be used. The message names the path and the fix."""
