"""ONNX graphs as networks of this project, read as data."""
