"""Lists of audio and what they say about each clip: manifests, transcripts and the layouts of well-known corpora."""
