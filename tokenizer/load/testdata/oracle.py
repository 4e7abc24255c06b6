"""Writes small tokenizers and what Hugging Face's library makes of hard texts.

usage: oracle.py TRAINING_TEXT OUT   (tokenizers 0.23; a novel will do for the text)
"""
import json, random, sys
from tokenizers import AddedToken, Regex, Tokenizer, decoders as D, models as M, normalizers as N
from tokenizers import pre_tokenizers as P, processors as R, trainers as T

MARKS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)"
REST = r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
LLAMA3 = MARKS + r"|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}" + REST
QWEN2 = MARKS + r"|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}" + REST
TEKKEN = (r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+"
          r"|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*|\p{N}"
          r"| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+")
BYTES = P.ByteLevel(add_prefix_space=False, use_regex=False)
SPLIT = lambda regex: P.Sequence([P.Split(Regex(regex), "isolated"), BYTES])
FALLBACK = [f"<0x{b:02X}>" for b in range(256)]
LLAMA2 = [D.Replace("▁", " "), D.ByteFallback(), D.Fuse(), D.Strip(" ", 1, 0)]

# name: (normalizer, pre-tokenizer, decoder, options of the model, marks)
KINDS = {
    "gpt2": (None, P.ByteLevel(add_prefix_space=False), D.ByteLevel(), {}, ""),
    "prefixed": (N.Sequence([N.NFD(), N.Lowercase()]), P.ByteLevel(add_prefix_space=True), D.ByteLevel(), {}, ""),
    "llama3": (None, SPLIT(LLAMA3), D.ByteLevel(), {"ignore_merges": True}, "<s> $A"),
    "qwen2": (N.NFC(), SPLIT(QWEN2), D.ByteLevel(), {}, ""),
    "smollm": (None, P.Sequence([P.Digits(True), P.ByteLevel(add_prefix_space=False)]), D.ByteLevel(), {}, ""),
    "tekken": (None, SPLIT(TEKKEN), D.ByteLevel(), {"ignore_merges": True}, "<s> $A </s>"),
    "llama2": (N.Sequence([N.Prepend("▁"), N.Replace(" ", "▁")]), None, D.Sequence(LLAMA2),
               {"byte_fallback": True, "fuse_unk": True, "unk_token": "<unk>"}, "<s> $A"),
    "metaspace": (None, P.Metaspace(prepend_scheme="first", split=False), D.Sequence(LLAMA2),
                  {"byte_fallback": True, "unk_token": "<unk>"}, "<s> $A"),
    "unknown": (N.Sequence([N.NFKC(), N.Strip(), N.Replace(Regex("[0-9]+"), "#")]),
                P.Sequence([P.Metaspace(), P.Split("e", "merged_with_previous"), P.Punctuation("contiguous"),
                            P.Split(Regex("[aeiou]+"), "merged_with_next")]),
                D.Metaspace(), {"fuse_unk": True, "unk_token": "<unk>"}, ""),
    "unfused": (None, P.Sequence([P.Split(Regex(r"\s+"), "removed"), P.Split(Regex("[a-z]"), "contiguous", invert=True),
                                  P.Digits(False)]), None, {"unk_token": "<unk>"}, ""),
}

TEXTS = [
    "", " ", "  ", "a", "\n", "\r\n\r\n", "\t", " a", "  a", "a  ", "a\n b", "Hello, world!", "don't I'LL we've THEY'RE o'clock 'tis it'ſ 'S",
    "1234567890 3.14159 1,000,000 ٣٤٥ ²³ Ⅷ ½ 12x34", "日本語 漢字かな交じり文。", "नमस्ते दुनिया", "Привет, мир", "مرحبا بالعالم", "שלום", "สวัสดี",
    "🙂 🙂🏽 👩‍👩‍👧‍👦 🇩🇪 ❤️", "e\u0301 é ﬁ Ⅳ Å İstanbul ǅ ẞ ſ", "a\u200bb\u200db\ufeffc", "a\u00a0b\u2003c\u3000d\u1680e\u0085f",
    "\x00\x01\x1f\x7f", "def f(x):\n\treturn x ** 2\n\n\nif __name__ == '__main__':\n    f(1)\r\n", "x\r\ny\rz \r\n \n  q", "a" * 300, "ab" * 200,
    "the " * 40, "<s>", "a<s>b", "a <s> b</s>", "<s><s> <unk>", "x <sep> y", "x<sep>y<mask> z  <mask>", "foo<word>bar <word> <word>!", "▁ ▁▁a",
    "<0x0A>", "<|", "…—“quoted”‘x’", "a_b-c/d\\e+f=g^h~i|j`k$l", "UPPER lower MiXeD camelCaseWords", "  leading\n  and   inner    spaces   ", "\n\n\n  x\n\n",
]


def hard(rng):
    alphabet = list("abeistxyzETS  \n\r\t'.,!?-_0129") + ["'s", "'ll", "'VE", "  ", "\r\n", " the", "é", "e\u0301", "ß", "ж", "日", "क", "ि", "٣", "½",
                                                            "🙂", "\u200d", "\u00a0", "\u2003", "<s>", "<sep>", "▁", "İ", "ſ", "ǅ", "𝒳"]
    return "".join(rng.choice(alphabet) for _ in range(rng.randint(1, 30)))


def main(source, out):
    lines = open(source, encoding="utf-8").read().split("\n")[1000:2000]
    lines += [str(37 * i) for i in range(200)] + 4 * TEXTS + [hard(random.Random(i)) for i in range(400)]
    rng = random.Random(1)
    texts = TEXTS + [hard(rng) for _ in range(160)]
    json.dump(texts, open(f"{out}/texts.json", "w", encoding="utf-8"), ensure_ascii=True, indent=0)
    for name, (normalizer, pre, decoder, options, marks) in KINDS.items():
        tok = Tokenizer(M.BPE(**options))
        special = ["<unk>", "<s>", "</s>"] + (FALLBACK if options.get("byte_fallback") else [])
        bytelevel = isinstance(decoder, D.ByteLevel)
        # Trained without the pre-tokenizer, merges want to cross its boundaries,
        # which makes every boundary visible in the ids.
        tok.pre_tokenizer = BYTES if bytelevel else P.Metaspace(split=name == "llama2")
        words = [line for line in lines if not any(s in line for s in ("<s>", "<sep>", "<word>"))]
        tok.train_from_iterator(words, T.BpeTrainer(vocab_size=len(special) + 900, special_tokens=special, show_progress=False, max_token_length=12,
                                                    initial_alphabet=P.ByteLevel.alphabet() if bytelevel else list("▁é日ж")))
        # Byte tokens belong to the model alone; training can only add them as special.
        state = json.loads(tok.to_str())
        state["pre_tokenizer"] = None
        state["added_tokens"] = [a for a in state["added_tokens"] if a["content"] not in FALLBACK]
        if name in ("gpt2", "metaspace"):  # the older way to write merges
            state["model"]["merges"] = [" ".join(m) for m in state["model"]["merges"]]
        tok = Tokenizer.from_str(json.dumps(state))
        if normalizer: tok.normalizer = normalizer
        if pre: tok.pre_tokenizer = pre
        if decoder: tok.decoder = decoder
        if name not in ("llama2", "unfused"):
            tok.add_tokens([AddedToken("<sep>", normalized=False), AddedToken("<word>", single_word=True, normalized=True)])
            tok.add_special_tokens([AddedToken("<mask>", lstrip=True, rstrip=name == "qwen2", normalized=False)])
        if marks:
            tok.post_processor = R.TemplateProcessing(single=marks, special_tokens=[("<s>", 1), ("</s>", 2)])
        saved = json.loads(tok.to_str())
        if name in ("gpt2", "metaspace"):
            saved["model"]["merges"] = state["model"]["merges"]
        json.dump(saved, open(f"{out}/{name}.json", "w", encoding="utf-8"), ensure_ascii=False, separators=(",", ":"))
        want = []
        for text in texts:
            tok.encode_special_tokens = False
            ids = tok.encode(text).ids
            tok.encode_special_tokens = True
            want.append({"special": ids, "plain": tok.encode(text).ids, "text": tok.decode(ids, skip_special_tokens=True)})
        json.dump(want, open(f"{out}/{name}.want.json", "w"), separators=(",", ":"))


main(*sys.argv[1:])
