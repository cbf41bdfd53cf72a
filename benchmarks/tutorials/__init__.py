"""GANs as tutorials and the common scripts train them, written anew from what those do: a plain DataLoader, transforms
image by image, plain Adam, and a discriminator whose weight gradients are computed in the generator's step, too.

They are what ganzoo is measured against; nothing here is meant as an example. ``data`` loads, ``networks`` are those of
the scripts, ``steps`` their training steps, ``contenders`` puts them together, ``parts`` makes their fully connected
networks components of ganzoo, so that both loops can train the very same ones.
"""
