"""What a program costs is all counted, wherever it is computed."""

import jax
import jax.numpy as jnp
import pytest

from synseg_jax.benchmarks.flops import flops, library_flops

CALL = (
    'custom-call({}), window={{size=3x3 stride=2x2 pad=1_1x1_1}}, dim_labels=b01f_o01i->b01f, '
    'custom_call_target="__cudnn$conv{}", backend_config={{"activation_mode":"kNone"}}'
)
# As XLA prints, for a GPU, a 3x3 convolution of stride 2 from 8 channels to 16 and its two gradients.
GPU_PROGRAM = f"""
ENTRY %main (x: bf16[2,8,8,8], k: bf16[3,3,8,16]) -> bf16[2,4,4,16] {{
  %x.1 = bf16[2,8,8,8]{{3,2,1,0}} parameter(0)
  %k.1 = bf16[16,3,3,8]{{3,2,1,0}} transpose(%k), dimensions={{3,0,1,2}}
  %conv.1 = (bf16[2,4,4,16]{{3,2,1,0}}, u8[0]{{0}}) {CALL.format('%x.1, %k.1, %bias', 'BiasActivationForward')}
  %out.1 = bf16[2,4,4,16]{{3,2,1,0}} get-tuple-element(%conv.1), index=0
  %conv.2 = (bf16[2,8,8,8]{{3,2,1,0}}, u8[0]{{0}}) {CALL.format('%out.1, %k.1', 'BackwardInput')}
  ROOT %conv.3 = (bf16[16,3,3,8]{{3,2,1,0}}, u8[0]{{0}}) {CALL.format('%x.1, %out.1', 'BackwardFilter')}
}}
"""


def test_convolutions_of_a_library():
    one = 2 * (2 * 4 * 4 * 16) * (3 * 3 * 8)
    assert library_flops(GPU_PROGRAM) == 3 * one
    assert library_flops(GPU_PROGRAM.replace('convBackwardInput', 'softmax')) == 2 * one


def test_a_product():
    compiled = jax.jit(jnp.dot).lower(jnp.ones((8, 16)), jnp.ones((16, 32))).compile()
    assert flops(compiled) == pytest.approx(2 * 8 * 16 * 32)
