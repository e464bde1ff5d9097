"""Training data: dataset readers, the corpus, the sampler of crops, and the loader of batches."""
