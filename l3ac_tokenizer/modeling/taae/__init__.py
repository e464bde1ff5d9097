"""TAAE family: the transformer codec of arXiv 2411.19842."""
