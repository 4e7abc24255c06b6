"""Writes small SentencePiece models and what the library makes of hard texts.

usage: oracle.py TRAINING_TEXT TEXTS.json OUT   (sentencepiece 0.2)
"""
import json, sys
import sentencepiece as spm

KINDS = {
    "fallback": dict(byte_fallback=True, remove_extra_whitespaces=False),
    "trim": dict(byte_fallback=True, remove_extra_whitespaces=True, user_defined_symbols=["<sep>", "the", "▁▁"]),
    "unknown": dict(byte_fallback=False, remove_extra_whitespaces=False, add_dummy_prefix=False, user_defined_symbols=["\n", "  ", "qu"]),
    "crossing": dict(byte_fallback=True, remove_extra_whitespaces=False, split_by_whitespace=False, split_by_unicode_script=False,
                     split_by_number=False, max_sentencepiece_length=8),
}


def main(source, texts, out):
    lines = open(source, encoding="utf-8").read().split("\n")[1000:2600]
    texts = json.load(open(texts))
    for name, options in KINDS.items():
        spm.SentencePieceTrainer.train(sentence_iterator=iter(lines + texts), model_prefix=f"{out}/{name}", model_type="bpe", vocab_size=700,
                                       character_coverage=0.99, normalization_rule_name="identity", minloglevel=2, **options)
        sp = spm.SentencePieceProcessor(model_file=f"{out}/{name}.model")
        # The library's text has U+FFFD for bad bytes and ⁇ for unknown tokens.
        want = [{"text": t, "ids": sp.encode(t), "back": sp.decode(sp.encode(t))} for t in texts if "\0" not in t]
        json.dump(want, open(f"{out}/{name}.want.json", "w"), indent=0)


main(*sys.argv[1:])
