"""The L3AC family: the networks of arXiv 2504.04949, SQCodec (its first version) and the light network."""
