"""How each kind of checkpoint is prompted, tokenised and read out."""
