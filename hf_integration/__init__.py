"""Bridges to the published weights, the Hugging Face hub and transformers itself."""
