"""All public sets, by name."""

from medgan_jax.data.public import body, brain, chest, retina, skin, tissue
from medgan_jax.data.public.layout import PublicSet

SETS: dict[str, PublicSet] = {
    public.name: public for module in (retina, brain, chest, body, skin, tissue) for public in module.SETS
}
