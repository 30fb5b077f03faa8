"""Detectron2's command line for training, declared without importing it, so that help comes at once."""

import argparse


def argument_parser(prog: str | None = None, description: str | None = None) -> argparse.ArgumentParser:
    """The flags of ``detectron2.engine.default_argument_parser``.

    Its ``--dist-url`` is a port by user number; here "auto" chooses a free one for processes of this machine.

    Args:
        prog: name of the command in its help.
    """
    parser = argparse.ArgumentParser(prog=prog, description=description)
    parser.add_argument(
        "--config-file", default="", metavar="CONFIG", help="a name, as dsb2018/objguided_small_R_18, or a path"
    )
    parser.add_argument("--resume", action="store_true", help="go on from the last checkpoint in OUTPUT_DIR")
    parser.add_argument("--eval-only", action="store_true", help="evaluate MODEL.WEIGHTS, or with --resume the last")
    parser.add_argument("--num-gpus", type=int, default=1, help="processes on each machine (default: %(default)s)")
    parser.add_argument("--num-machines", type=int, default=1, help="default: %(default)s")
    parser.add_argument("--machine-rank", type=int, default=0, help="of this one, from 0 (default: %(default)s)")
    parser.add_argument("--dist-url", default="auto", help="where processes meet, as tcp://HOST:PORT")
    parser.add_argument(
        "opts", nargs=argparse.REMAINDER, metavar="KEY VALUE", help="pairs that override the config, at the end"
    )
    return parser
