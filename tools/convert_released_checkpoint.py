#!/usr/bin/env python
"""Turn a checkpoint of the authors' released program into one of ours: IN.pth OUT.pth."""

import argparse
import sys
from pathlib import Path

from objguided_d2.utils.signals import end_on_signals

DEFAULT_CONFIG = Path(__file__).parents[1] / "configs/dsb2018/objguided_released_R_50.yaml"

if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("input", metavar="IN.pth")
    parser.add_argument("output", metavar="OUT.pth")
    parser.add_argument("--config-file", default=str(DEFAULT_CONFIG), help="model that the result must fit")
    arguments = parser.parse_args()
    end_on_signals()
    try:
        from objguided_d2.engine.released_checkpoint_file import convert_file

        convert_file(arguments.input, arguments.output, arguments.config_file)
    except (OSError, ValueError) as error:
        sys.exit(f"error: {error}")
    except KeyboardInterrupt:
        sys.exit(130)
    print(f"{arguments.output}: use it as MODEL.WEIGHTS with {arguments.config_file}")
