"""How the model answers: generation over a data set, to predictions.jsonl."""
