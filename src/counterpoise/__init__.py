"""Counterpoise: find a text-to-image model's biases, repair them with a low-rank update, prove it."""
