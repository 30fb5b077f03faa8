"""What Windows and macOS do not have is not used without asking for the system."""

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "objguided_d2"
# Of the standard library, and of its modules os and signal.
MODULES = {"fcntl", "grp", "posix", "pty", "pwd", "resource", "syslog", "termios", "tty"}
MEMBERS = {
    "os": {"fork", "forkpty", "geteuid", "getloadavg", "getpgid", "getuid", "killpg", "mkfifo", "nice", "setsid"}
    | {"sched_getaffinity", "sched_setaffinity", "setpgid", "statvfs", "sysconf", "uname"},
    "signal": {
        "SIGALRM",
        "SIGCHLD",
        "SIGHUP",
        "SIGKILL",
        "SIGUSR1",
        "SIGUSR2",
        "alarm",
        "pthread_sigmask",
        "setitimer",
    },
}


def unguarded(source: str) -> list[str]:
    """Uses outside of ``try`` and of an ``if`` on ``sys.platform``."""
    found = []

    def look(node: ast.AST) -> None:
        if isinstance(node, ast.Try) or isinstance(node, ast.If) and "sys.platform" in ast.unparse(node.test):
            return
        if isinstance(node, ast.Import):
            found.extend(alias.name for alias in node.names if alias.name in MODULES)
        if isinstance(node, ast.ImportFrom) and node.module in {*MODULES, *MEMBERS}:
            names = {alias.name for alias in node.names}
            found.extend(names if node.module in MODULES else names & MEMBERS[node.module])
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            if node.attr in MEMBERS.get(node.value.id, ()):
                found.append(ast.unparse(node))
        for child in ast.iter_child_nodes(node):
            look(child)

    look(ast.parse(source))
    return found


@pytest.mark.parametrize(
    ("source", "used"),
    [
        ("import resource", ["resource"]),
        ("from signal import SIGKILL, SIGTERM", ["SIGKILL"]),
        ("def end():\n    os.killpg(1, signal.SIGTERM)", ["os.killpg"]),
        ("try:\n    import resource\nexcept ImportError:\n    pass", []),
        ("if sys.platform != 'win32':\n    os.setpgid(0, 0)", []),
    ],
)
def test_uses_are_found(source, used):
    assert unguarded(source) == used


def test_nothing_of_one_system_alone_is_used_unasked():
    files = {path: unguarded(path.read_text(encoding="utf-8")) for path in sorted(PACKAGE.rglob("*.py"))}
    assert len(files) > 200
    assert {path.name: used for path, used in files.items() if used} == {}
