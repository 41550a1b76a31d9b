"""Exported files that are asked as the model is that they were made from; an ONNX file without importing PyTorch."""
