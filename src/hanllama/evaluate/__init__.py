"""What a chat model does with instructions about stories, measured by the gold checker."""
