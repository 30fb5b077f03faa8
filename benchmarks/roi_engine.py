"""What the variable-size ROI engine has to reach, row by row: each is measured against its opponent in one run."""

from collections.abc import Callable, Iterator

from benchmarks import mask_head_rows, model_rows, stage_rows
from benchmarks.rows import Row, Settings

ROWS: dict[str, Callable[[Settings], Iterator[Row]]] = {
    "mask-head-inference": mask_head_rows.inference,
    "mask-head-training": mask_head_rows.training,
    "mask-head-small": mask_head_rows.small_widths,
    "operations": mask_head_rows.operations,
    "straight-line": mask_head_rows.straight_line,
    "center-head": stage_rows.center_head,
    "postprocessing": stage_rows.postprocessing,
    "small-models": model_rows.small_models,
    "large-models": model_rows.large_models,
    "plain-path": model_rows.plain_path,
    "training-step": model_rows.training_step,
    "layout": model_rows.layout,
    "precision": model_rows.precision,
}
