"""Training the codec: losses, data, schedule, loop, export. Needs the extra `l3ac-tokenizer[train]`."""
