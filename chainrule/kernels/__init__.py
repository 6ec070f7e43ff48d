"""Kernels that are compiled on the user's machine, by numba, with the vector instructions of its processor.

Nothing depends on them: each has an equivalent in plain torch, which is its oracle, and which is used where they cannot
be (``selftest``). The rest of the package calls ``precision.with_weights_in``.

    vectors       the instructions: what numba's own loops do not reach
    packing       the layouts of matrices, and rounding to int8 and int4, in torch
    matmul        few vectors times a large matrix of int8, int4 or bf16
    attention     one query over a cache
    cell_kinds    the recurrent cells
    cells         steps of recurrent cells
    elementwise   activation functions, and conversion to int8 and bf16
    draw          tokens by the Gumbel-max trick, which the engine calls
    calls         numbers and addresses that a call hands to a team
    threads       teams of torch's OpenMP pool, and a barrier
    program       a list of these operations, run by a team without a return to Python
    building      how a program is made: buffers, packed weights, linear maps
    scan          all steps of a recurrent layer, forward and backward, for training
    recurrent_layer  the same as a function of autograd, which nn.recurrent calls
    tiles         products of small matrices of bf16, eight rows at a time
    whole_attention  attention of all queries, forward and backward, for training
    fused         parts of a Transformer, forward and backward, for training
    norm          layer norm, forward and backward, for training
    loss          log p of targets, forward and backward, for training
    fused_functions  the same as functions of autograd, which nn.attention, nn.blocks and core.prediction call
    training      registers the kernels for training
    autocast      the condition under which they apply
    decoder       the step of a Transformer decoder as a program
    recurrent_step   that of an RNN, LSTM or GRU
    cache         where compiled kernels are kept
    selftest      may they be used on this processor? asked once, in a process of its own
"""
