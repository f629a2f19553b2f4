"""The kinds of volatilerse.io, their conditions and reasons, and the CRDs made from them."""
