"""Network factories: linen modules called as `network(x, *, train)`, channels last, of rank 2 or 3.

The spatial rank follows from the input (networks that start from a latent vector have a `rank` field). What
spatial sizes a network takes is its `sizes`, with `size_multiple` for short; other sizes raise a one-line
`UserError` when the call is traced. Discriminators return logits, and with `features=True` also the tuple of
their intermediate maps. A convolution in front of batch or instance normalisation has no bias, which differs
from some published code: such a bias has no effect but on the noise in Adam's steps.
"""
