"""Assistants and the versioned prompts that instruct them."""
