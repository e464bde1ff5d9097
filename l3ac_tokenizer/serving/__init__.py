"""Page of `l3ac serve` and of the Space: clips, ids and the microphone through the codec."""
