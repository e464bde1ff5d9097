"""L3AC family: the networks of arXiv 2504.04949, SQCodec (their first version), and the light networks."""
