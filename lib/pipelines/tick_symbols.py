"""What only the pipeline of many symbols knows: its models are those of the tick pipeline."""

from lib.pipelines.tick import load_rows, look, predict, watched

__all__ = ["load_rows", "look", "predict", "watched"]
