"""What a U-Net costs by arithmetic, against the traced network."""

import jax
import pytest

from segjax.auto import network
from segjax.auto.network import Network
from segjax.costs import flops
from segjax.kernels import dispatch
from segjax.models import unet

NETS = {
    "pictures": Network((64, 96), 2, (8, 16, 32), 2, 3, 5),
    "coarse": Network((64, 64), 1, (8, 16), 4, 1, 2),
    "volumes": Network((16, 32, 48), 1, (8, 16, 24), 1, 1, 3),
}


@pytest.mark.parametrize("name", NETS)
def test_flops_are_those_of_the_traced_model(name):
    net = NETS[name]
    model = unet.Model(num_classes=net.classes, widths=net.widths, stem_stride=net.stem)
    image = jax.ShapeDtypeStruct((1, *net.patch, net.channels), "float32")
    with dispatch.use("reference"):
        variables = jax.eval_shape(lambda x: model.init(jax.random.key(0), x, train=False), image)
        jaxpr = jax.make_jaxpr(lambda v, x: model.apply(v, x, train=False))(variables, image)
    counted = flops.count(jaxpr)  # resizing the logits is no convolution
    expected = sum(n for name, n in counted.items() if "->" not in name)
    assert net.forward() == expected
    assert net.flops() == 3 * net.batch * net.forward()


def test_a_patch_shrinks_where_it_is_longest():
    assert network.shrunk((64, 128), (60, 60), 16) == (64, 112)
    assert network.shrunk((48, 48), (60, 60), 16) == (48, 48)
    assert network.rounded((36, 50, 35), 8) == (40, 56, 40)
    assert network.levels((40, 56, 40), 1, 6) == 4 and network.levels((16, 16), 2, 6) == 2


def test_memory_grows_with_the_batch():
    net = NETS["volumes"]
    twice = Network(net.patch, 2 * net.batch, net.widths, net.stem, net.channels, net.classes)
    assert net.memory() < twice.memory() < 2 * net.memory()
