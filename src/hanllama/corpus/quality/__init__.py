"""Quality of text: a character language model, a classifier of good and bad, and their scores."""
