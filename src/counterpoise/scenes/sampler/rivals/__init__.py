"""Other ways to draw a scene, for comparison: each one file, each a `Hold` that ScenePainter takes."""
