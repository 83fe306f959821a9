"""Tables and figures from predictions and scores; imports neither torch nor transformers."""
