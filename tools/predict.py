"""Predict images: `objguided predict`, called as Detectron2's users call tools.

python tools/predict.py images/ --model output/my_run --output results/
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from objguided_d2.inference.predict_command import main  # noqa: E402

if __name__ == "__main__":
    sys.exit(main())
