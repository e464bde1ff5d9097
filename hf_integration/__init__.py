"""Publishing: folders for the Hugging Face hub, model cards, and the proposal of L3AC to transformers."""
