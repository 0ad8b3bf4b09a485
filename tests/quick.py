"""XLA's flags for tests, which compile far more than they compute."""

from importlib.metadata import version

# At level 0 gradients of the Res-U-Net are NaN on CPU (jaxlib 0.10.2); at level 1, which compiles longer, they are not.
FLAGS = '--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true'
if version('jaxlib').startswith('0.10.'):
    FLAGS += ' --xla_cpu_use_fusion_emitters=false'  # a third less to compile; from 0.11 on there are no others
    FLAGS += ' --xla_cpu_parallel_codegen_split_count=1'  # splitting for threads costs a tenth more
