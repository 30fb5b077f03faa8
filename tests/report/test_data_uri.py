import base64

import cv2
import numpy as np

from objguided_d2.report.data_uri import jpeg_data_uri


def decode(uri):
    kind, data = uri.split(",")
    assert kind == "data:image/jpeg;base64"
    return cv2.imdecode(np.frombuffer(base64.b64decode(data), np.uint8), cv2.IMREAD_COLOR)


def test_thin_colored_lines_keep_their_color():
    pixels = np.full((33, 40, 3), 128, np.uint8)
    pixels[:, 7] = (0, 0, 255)
    difference = {full: np.abs(decode(jpeg_data_uri(pixels, 90, full)).astype(int) - pixels) for full in (False, True)}
    assert difference[True].max() < 60 < difference[False].max()
