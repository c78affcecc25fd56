"""Byte-level BPE: pre-tokenization, training, encoding, files."""
