"""How the model learns: stages, collator, trainer, runs that can be killed and resumed."""
