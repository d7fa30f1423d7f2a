"""Trades: the readers of their files and tables, bars, indicators, windows and their model."""
