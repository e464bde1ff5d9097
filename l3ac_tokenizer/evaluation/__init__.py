"""How much of the audio one stream of ids keeps: metrics, and the table of a model over folders of clips."""
