"""A Llama with random weights that never ends a reply by itself, and texts for it: work of a known size.

    python benchmarks/random_model.py FOLDER      # about 51 million parameters

Its end-of-text token always has logit 0 and some other a higher one, so every greedy reply is exactly as long as asked.
"""

import random
import sys
from pathlib import Path

SYLLABLES = "ba be bi bo bu da de di do du ka ke ki ko ku la le li lo lu ma me mi mo mu na ne ni no nu"


def texts(count: int, least: int, most: int, seed: int = 0) -> list[str]:
    """Texts of so many words of three syllables each, lengths drawn evenly."""
    rng, syllables = random.Random(seed), SYLLABLES.split()

    def word() -> str:
        return "".join(rng.choices(syllables, k=3))

    return [" ".join(word() for _ in range(rng.randint(least, most))) for _ in range(count)]


def make(folder: str, *, hidden: int = 512, layers: int = 10, vocabulary: int = 16_384, context: int = 1024) -> int:
    """Write the model and its tokenizer; its number of parameters."""
    import torch
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    raw = Tokenizer(models.BPE())
    raw.pre_tokenizer, raw.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary, special_tokens=["<s>", "</s>"], initial_alphabet=alphabet, show_progress=False
    )
    raw.train_from_iterator(texts(20_000, 8, 24, seed=1), trainer)
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=raw, bos_token="<s>", eos_token="</s>")
    tokenizer.save_pretrained(folder)
    torch.manual_seed(0)
    model = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=vocabulary,
            hidden_size=hidden,
            intermediate_size=3 * hidden,
            num_hidden_layers=layers,
            num_attention_heads=hidden // 64,
            max_position_embeddings=context,
            bos_token_id=0,
            eos_token_id=1,
            initializer_range=0.1,
        )
    )
    with torch.no_grad():
        model.lm_head.weight[1] = 0
    model.save_pretrained(folder)
    return sum(weights.numel() for weights in model.parameters())


if __name__ == "__main__":
    Path(sys.argv[1]).mkdir(parents=True, exist_ok=True)
    print(f"{make(sys.argv[1]):,} parameters")
