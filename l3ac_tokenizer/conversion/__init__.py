"""Conversion of the published weights of L3AC, SQCodec and TAAE to checkpoints of this package."""
