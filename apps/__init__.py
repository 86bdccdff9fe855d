"""The product, one package a room; lower rooms know nothing of higher ones."""
