"""A small WordPiece tokeniser: the words of the scenes, and single letters so that any prompt can be read."""

import string
from typing import Any

from transformers import BertTokenizerFast

from training.names import NAMES

# Where BERT has them, and where Grounding DINO's model code expects them.
SPECIAL = {"[PAD]": 0, "[UNK]": 100, "[CLS]": 101, "[SEP]": 102, "[MASK]": 103, ".": 1012, "?": 1029}
SIZE = 1030
GENERAL = ("instrument", "tool", "object", "surgical", "the", "of")


def build_tokenizer() -> Any:
    letters = string.ascii_lowercase + string.digits
    words = [word for name in NAMES for word in name.split()]
    pieces = dict.fromkeys([*words, *GENERAL, *letters, *(f"##{letter}" for letter in letters), *",-'/()&"])
    taken = set(SPECIAL.values())
    free = (i for i in range(SIZE) if i not in taken)
    vocabulary = SPECIAL | dict(zip(pieces, free, strict=False))
    unused = sorted(set(range(SIZE)) - set(vocabulary.values()))
    vocabulary |= {f"[unused{i}]": i for i in unused}
    return BertTokenizerFast(vocab=vocabulary, do_lower_case=True, model_max_length=256)
