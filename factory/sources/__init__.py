"""Sources yield prompts, one file each."""
