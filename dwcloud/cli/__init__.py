"""The dwcloud command."""
