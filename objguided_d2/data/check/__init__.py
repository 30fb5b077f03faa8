"""Is a COCO file fit for training, and what does it hold? The command is ``objguided check NAME|JSON``."""

from .report import STRIDE, Report, check_coco_file, draw_check_sheet, format_report

__all__ = ["STRIDE", "Report", "check_coco_file", "draw_check_sheet", "format_report"]
