"""`hanllama chat`: talk with a model on a terminal."""
