"""The console command ``objguided``: one table of commands, each in a module that is imported when it is called.

A command is a function ``main(argv, prog) -> int`` of the arguments after its name. Its module imports torch,
Detectron2 and NumPy after it has parsed them, so that help comes at once. Its exit status is 0 if all is well; 1 if it
could not do its work, be it for a config, dataset or file that is unknown, missing or broken, a check with errors or a
target that is missed; and 2, argparse's, for arguments that make no command. Either is told in one line with
``error:``. ``prepare`` and ``predict`` also end with 2 when they have finished but had to leave something out. One that
Ctrl-C or SIGTERM stops ends with 130 or 143; it has removed what was half written then, and a training has saved its
state.
"""

import argparse
import difflib
import importlib
import os
import sys
import warnings
from collections.abc import Sequence
from typing import NoReturn

from .. import __version__
from ..engine.errors import EngineError, Interruption
from ..utils.allocator import keep_freed_memory
from ..utils.exit_at_once import exit_at_once
from ..utils.full_disk import is_full_disk
from ..utils.signals import end_at_once_on_signals, end_on_signals

# name -> module with its ``main``, what it does.
COMMANDS = {
    "doctor": ("objguided_d2.doctor", "what is installed here, what is missing and how to get it"),
    "demo": ("objguided_d2.demo", "nuclei in sample images, then other cells learned from six images, in minutes"),
    "prepare": (
        "objguided_d2.data.converters.commands",
        "convert dsb2018, bbbc039, plant, ctc or labelmaps to COCO JSON, or make synthetic",
    ),
    "check": ("objguided_d2.data.check_command", "is a COCO dataset fit for training, and what does it hold"),
    "train": ("objguided_d2.cli.train", "train or evaluate the model of a config, or a suite of configs"),
    "finetune": ("objguided_d2.finetuning.command", "adapt a trained model to a few labeled images of yours"),
    "predict": ("objguided_d2.inference.predict_command", "images to label images, measurements and other files"),
    "evaluate": ("objguided_d2.inference.evaluate_command", "AP and other numbers of a trained model on a dataset"),
    "export": ("objguided_d2.inference.export_command", "a trained model as one file, for predict"),
    "compare": ("objguided_d2.report.compare_command", "tables, figures and a page of several runs on one dataset"),
    "benchmark": ("objguided_d2.profiling.benchmark", "speed, memory and arithmetic of models side by side"),
    "ablate": ("objguided_d2.report.ablate_command", "sampling strategies of the refinement over several seeds"),
}
INTERRUPTED = (130, 143)  # exit status after SIGINT and SIGTERM
EPILOG = """\
objguided COMMAND --help describes each. Configs go by name, as dsb2018/objguided_small_R_18, or by path; datasets are
below the folder that DETECTRON2_DATASETS names.
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command that ``argv`` begins with (default: that of this process); returns its exit status."""
    parser = _parser()
    args = parser.parse_args(argv)
    if args.command is None:
        parser.print_help(sys.stderr)
        return 2
    if args.command not in COMMANDS:
        close = difflib.get_close_matches(args.command, COMMANDS, n=1)
        parser.error(f"unknown command {args.command}; " + (f"did you mean {close[0]}?" if close else "see --help"))
    module, _ = COMMANDS[args.command]
    keep_freed_memory()
    _silence_detectron2()
    try:
        return importlib.import_module(module).main(args.arguments, f"objguided {args.command}")
    except KeyboardInterrupt:
        return 130
    except Interruption as interruption:
        return interruption.exit_status
    except EngineError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_status
    except OSError as error:
        if not (is_full_disk(error) or isinstance(error, BrokenPipeError)):
            raise
        print(f"error: {error}", file=sys.stderr)
        return 1
    except ModuleNotFoundError as error:
        if error.name and error.name.partition(".")[0] == "objguided_d2":
            raise
        print(f"error: {error}; `objguided doctor` says what is missing and how to get it", file=sys.stderr)
        return 1


def _silence_detectron2() -> None:
    """Leave out a warning of Detectron2's own, at every import of it with a recent PyTorch, here and in processes that
    this one starts."""
    message = "`torch.jit.script` is deprecated"
    warnings.filterwarnings("ignore", message, FutureWarning)
    given, own = os.environ.get("PYTHONWARNINGS", ""), f"ignore:{message}:FutureWarning"
    if own not in given:
        os.environ["PYTHONWARNINGS"] = f"{given},{own}".lstrip(",")


def console(argv: Sequence[str] | None = None) -> NoReturn:
    """The program: :func:`main`, whose process ends at once if a signal stopped the command."""
    end_on_signals()
    import logging  # Takes a while: from here on a signal is handled.

    # On a full disk each line of a log would be a traceback, and the end of its file two lines.
    logging.raiseExceptions = False
    sys.unraisablehook = _tell_unless_no_space
    try:
        status: str | int | None = main(argv)
    except SystemExit as end:
        status = end.code
    end_at_once_on_signals()
    if isinstance(status, int) and status in INTERRUPTED:
        exit_at_once(status)
    sys.exit(status if _is_printed() else 1)


def _tell_unless_no_space(unraisable: "sys.UnraisableHookArgs") -> None:
    """What Python cannot raise, as at its end, but for what the full disk has been told of already."""
    if not is_full_disk(unraisable.exc_value):
        sys.__unraisablehook__(unraisable)


def _is_printed() -> bool:
    """Whether standard output took all; else it is told in one line, and what is left is dropped."""
    try:
        sys.stdout.flush()
    except OSError as error:
        if not isinstance(error, BrokenPipeError):  # As of `| head`, which has what it wanted.
            print(f"error: standard output cannot be written: {error.strerror}", file=sys.stderr)
        # Python would try again at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return False
    return True


def _parser() -> argparse.ArgumentParser:
    width = max(map(len, COMMANDS))
    table = "\n".join(f"  {name:{width}}  {what}" for name, (_, what) in COMMANDS.items())
    parser = argparse.ArgumentParser(
        prog="objguided",
        usage="objguided [--help] [--version] COMMAND ...",
        description=f"Object-guided instance segmentation of biological images.\n\ncommands:\n{table}",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"objguided_d2 {__version__}")
    parser.add_argument("command", metavar="COMMAND", nargs="?", help=argparse.SUPPRESS)
    parser.add_argument("arguments", nargs=argparse.REMAINDER, help=argparse.SUPPRESS)
    return parser
