"""PURE: detections and what people drew, as arrays -> figures, intervals, verdicts. No clock, disk, network."""
