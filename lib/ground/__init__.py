"""What everything rests on: places and files, run folders, parameters, the console."""
