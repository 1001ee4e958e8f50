"""The benchmark's data: tasks, tables, layouts, prompts; nothing after this room knows about files of data."""
