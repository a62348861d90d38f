"""Chapter 05: scores for generated images, and for models that join images and text."""
