"""Space to hear the codec: the page of `l3ac serve`."""

from l3ac_tokenizer.serving.page import serve

if __name__ == "__main__":
    page, _ = serve()
    page.block_thread()
