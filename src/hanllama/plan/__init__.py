"""`hanllama plan`: time, memory and cost of a training before it runs."""
