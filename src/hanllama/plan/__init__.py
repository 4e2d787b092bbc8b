"""What a training will take, before any spending: `hanllama plan`."""
