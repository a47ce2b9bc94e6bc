"""Layers: file systems that images and containers share."""
