"""Small models of encoder and decoder with random weights, made from nothing, and rows to teach them."""

from pathlib import Path

from reinstruct.records import Example, Message

SENTENCES = ["Say the river.", "The mill is on the hill.", "What is it? It is a town by the sea."]
FAMILIES = ("t5", "bart")


def rows(count: int) -> list[Example]:
    """Prompts of different lengths, every other one a conversation, whose answer hangs on the prompt."""
    places = ("river", "hill", "mill", "town", "sea")
    made: list[Example] = []
    for n in range(count):
        asked, target = f"Say {' '.join(places[: n % 5 + 1])} {n}.", f"{places[n % 5]} {n}"
        if n % 2:
            made.append(Example(id=f"e{n}", messages=(Message("user", asked),), target=target, origin="web"))
        else:
            made.append(Example(id=f"e{n}", prompt=asked, target=target, origin="seed"))
    return made


def made_base(folder: Path, family: str, **changed: object) -> str:
    """A folder with a model of this family and a tokenizer that frames texts as its tokenizers do."""
    import torch

    tokenizer = _tokenizer(framed_in_front=family == "bart")
    tokenizer.save_pretrained(folder)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = _model(family, len(tokenizer), changed)
    model.save_pretrained(folder)
    return str(folder)


def _tokenizer(*, framed_in_front: bool):
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
    from transformers import PreTrainedTokenizerFast

    special = ["<pad>", "</s>", "<s>"]
    raw = Tokenizer(models.BPE())
    raw.pre_tokenizer, raw.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    raw.train_from_iterator(
        SENTENCES, trainers.BpeTrainer(vocab_size=320, special_tokens=special, initial_alphabet=alphabet)
    )
    front = "<s> " if framed_in_front else ""
    raw.post_processor = processors.TemplateProcessing(
        single=f"{front}$A </s>", special_tokens=[(token, number) for number, token in enumerate(special)]
    )
    named = {"bos_token": "<s>"} if framed_in_front else {}
    return PreTrainedTokenizerFast(tokenizer_object=raw, pad_token="<pad>", eos_token="</s>", **named)


def _model(family: str, vocabulary: int, changed: dict[str, object]):
    from transformers import BartConfig, BartForConditionalGeneration, T5Config, T5ForConditionalGeneration

    shape = {"vocab_size": vocabulary, "d_model": 64, "pad_token_id": 0, "eos_token_id": 1}
    if family == "t5":
        own = {"d_kv": 16, "d_ff": 128, "num_layers": 2, "num_heads": 4, "decoder_start_token_id": 0}
        return T5ForConditionalGeneration(T5Config(**{**shape, **own, "dropout_rate": 0.0, **changed}))
    layers = {f"{side}_{name}": n for side in ("encoder", "decoder") for name, n in _SIDE.items()}
    own = {"bos_token_id": 2, "decoder_start_token_id": 1, "forced_eos_token_id": 1}
    config = BartConfig(**{**shape, **layers, **own, "dropout": 0.0, "max_position_embeddings": 96, **changed})
    model = BartForConditionalGeneration(config)
    model.generation_config.forced_bos_token_id = 2  # as the models of its makers say
    return model


_SIDE = {"layers": 2, "attention_heads": 4, "ffn_dim": 128}
