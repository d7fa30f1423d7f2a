"""What only the pipeline of the shared search knows: its models are those of the power pipeline."""

from lib.pipelines.power import load_rows, look, predict, rows_of, watched

__all__ = ["load_rows", "look", "predict", "rows_of", "watched"]
