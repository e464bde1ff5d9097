"""Sources of audio for tokenization: folders, manifests, Parquet, WebDataset and `datasets`."""
