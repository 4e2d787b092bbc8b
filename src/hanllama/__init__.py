"""hanllama: from a folder of Chinese text to a Llama that runs anywhere."""

__version__ = "0.1.0"
