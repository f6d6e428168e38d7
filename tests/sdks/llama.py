"""A llama.cpp server in this process (`xllamacpp`), with a model of random weights that `gguf` writes: a real server's bytes, in a
second, from half a megabyte.
"""

import os
import sys

LAYERS, WIDTH, INNER, CONTEXT = 1, 32, 64, 512
TEMPLATE = "{% for message in messages %}{{ message.role }}: {{ message.content }}\n{% endfor %}assistant:"


def start(folder):
    """Its URL; whoever calls keeps the server."""
    import xllamacpp

    quiet()

    path = str(folder / "tiny.gguf")
    write_model(path)
    parameters = xllamacpp.CommonParams()
    parameters.model.path, parameters.n_ctx, parameters.cpuparams.n_threads = path, CONTEXT, 1
    server = xllamacpp.Server(parameters)
    return server, server.listening_address


def quiet():
    """llama.cpp tells what it does line by line, from C; Python's own errors are still told."""
    sys.stderr = os.fdopen(os.dup(2), "w", buffering=1)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    os.close(nowhere)


def write_model(path):
    import gguf
    import numpy

    random = numpy.random.default_rng(7)
    writer = gguf.GGUFWriter(path, "llama")
    tokens = [("<unk>", 2), ("<s>", 3), ("</s>", 3), *((f"<0x{byte:02X}>", 6) for byte in range(256)), ("▁", 1), *((chr(c), 1) for c in range(97, 123))]
    writer.add_context_length(CONTEXT)
    writer.add_embedding_length(WIDTH)
    writer.add_block_count(LAYERS)
    writer.add_feed_forward_length(INNER)
    writer.add_head_count(2)
    writer.add_head_count_kv(2)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_dimension_count(WIDTH // 2)
    writer.add_vocab_size(len(tokens))
    writer.add_tokenizer_model("llama")
    writer.add_token_list([text.encode() for text, _ in tokens])
    writer.add_token_scores([0.0 if kind != 1 else -1.0 for _, kind in tokens])
    writer.add_token_types([kind for _, kind in tokens])
    writer.add_unk_token_id(0)
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_chat_template(TEMPLATE)

    def tensor(name, *shape):
        weights = random.standard_normal(shape) * 0.1 if len(shape) > 1 else numpy.ones(shape)
        writer.add_tensor(f"{name}.weight", weights.astype(numpy.float32))

    tensor("token_embd", len(tokens), WIDTH)
    tensor("output_norm", WIDTH)
    tensor("output", len(tokens), WIDTH)
    for layer in (f"blk.{n}" for n in range(LAYERS)):
        for name in ("attn_norm", "ffn_norm"):
            tensor(f"{layer}.{name}", WIDTH)
        for name in ("attn_q", "attn_k", "attn_v", "attn_output"):
            tensor(f"{layer}.{name}", WIDTH, WIDTH)
        tensor(f"{layer}.ffn_gate", INNER, WIDTH)
        tensor(f"{layer}.ffn_up", INNER, WIDTH)
        tensor(f"{layer}.ffn_down", WIDTH, INNER)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
