"""Time, memory and FLOPs of models and evaluators."""
