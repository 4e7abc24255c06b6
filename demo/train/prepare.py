"""Texts to token files: books.bin, stories.bin, cast.bin (uint16) and facts.npz.

    python prepare.py BOOKS tok.model OUT --held-out NOVELS

BOOKS has plain texts; those named tinystories* are stories. A text that is held out, by its name, by the
people in it, or because it shares sentences with a file of NOVELS, ends the program.
"""
import argparse
import random
import re
from collections import Counter
from pathlib import Path

import numpy as np
import sentencepiece

TITLES = re.compile(r"moonstone|ivanhoe|moby-dick|middlemarch|vanity-fair|bleak-house|the-ambassadors", re.I)
PEOPLE = re.compile(r"Betteredge|Bois-Guilbert|Queequeg|Casaubon|Rawdon Crawley|Jarndyce|Strether")
SHINGLE = 10      # words
QUOTED = 1000     # shingles that a text may share with novels that are held out: they quote the Bible and Bunyan
END = "<|endoftext|>"  # ends a story in TinyStories
FACTS = 20_000
CAST_PASSES = 8
AS_IT_IS = 0.4    # share of a book's parts that stay as the file has them: short lines, typographic quotes
PART = 20_000     # characters


def clean(text):
    """One form for books of several makers: ASCII quotes and dashes, a paragraph a line, blank lines between."""
    text = text.replace("\r\n", "\n").replace("\ufeff", "")
    text = re.sub("[\u2018\u2019]", "'", text)
    text = re.sub("[\u201c\u201d]", '"', text)
    text = text.replace("\u2014", "--").replace("_", "")
    text = re.sub(r"(?<!\n)\n(?!\n)", " ", text)
    text = re.sub(r"\n{2,}", "\n\n", text)
    return re.sub(r"[ \t]{2,}", " ", text)


def partly_clean(text, rng):
    """The text with parts in the one form and parts as the file has them."""
    text = text.replace("\r\n", "\n").replace("\ufeff", "")
    parts, begin = [], 0
    while begin < len(text):
        end = text.find("\n\n", begin + PART)
        end = len(text) if end < 0 else end
        part = text[begin:end]
        parts.append(part if rng.random() < AS_IT_IS else clean(part))
        begin = end
    return "".join(parts)


def shingles(text):
    words = re.findall(r"[a-z']+", clean(text).lower())
    return {hash(tuple(words[i:i + SHINGLE])) for i in range(len(words) - SHINGLE + 1)}


def refuse_held_out(path, text, held):
    if TITLES.search(path.name) or len(PEOPLE.findall(text)) > 20 or len(shingles(text) & held) > QUOTED:
        raise SystemExit(f"{path}: held out, must not be trained on")


def made_up_name(rng):
    """A name that no text is likely to have, so that it can be known from the context only."""
    start, middle, end = "B Br C D Dr F G H J K L M N P Qu R S T Th V W Z", "a e i o u ai ee", "bel dra fin la lin mo na ra rin ro sa ta tor vin wen zo"
    return "".join(rng.choice(part.split()) for part in (start, middle, end))


def with_cast(story, cast, rng):
    """The story with its people replaced by people of the cast."""
    seen = Counter(re.findall(r"(?<=[a-z,] )[A-Z][a-z]+\b", story))
    people = [n for n, count in seen.most_common(3) if count > 1 and n not in ("Mom", "Mommy", "Dad", "Daddy", "Mr", "Mrs", "Once", "The", "They")]
    for person, new in zip(people, rng.sample(cast, len(people))):
        story = re.sub(rf"\b{person}\b", new, story)
    return story


def cast_documents(stories, rng):
    """Stories in another order each time, joined to texts of some 32K tokens with ten recurring people."""
    for _ in range(CAST_PASSES):
        rng.shuffle(stories)
        for i in range(0, len(stories), 150):
            cast = [made_up_name(rng) for _ in range(10)]
            yield "\n\n".join(with_cast(s, cast, rng) for s in stories[i:i + 150])


THINGS = "lantern ring key map horse book sword boat garden bell crown mirror coat letter stone knife basket candle fiddle clock".split()
COLOURS = "red blue green black white golden silver brown grey purple".split()
PLACES = "cellar attic church barn forest harbour market mill tower cave kitchen orchard".split()
WORDS = "thunder apple river winter pepper candle feather copper shadow meadow anchor violet saddle pigeon butter marble".split()


def fact(rng):
    """A statement with a made-up name, the same asked back, and the answer."""
    name, thing = made_up_name(rng), rng.choice(THINGS)
    kind, answer = rng.choice([("word", rng.choice(WORDS)), ("colour", rng.choice(COLOURS)), ("place", rng.choice(PLACES)), ("number", str(rng.randrange(10, 100)))])
    told, asked = {
        "word": (f"The secret word of {name} is", f"What is the secret word of {name}?"),
        "colour": (f"The colour of {name}'s {thing} is", f"What is the colour of {name}'s {thing}?"),
        "place": (f"{name} hid the {thing} in the", f"Where did {name} hide the {thing}?"),
        "number": (f"The number on {name}'s door is", f"What is the number on {name}'s door?"),
    }[kind]
    return kind, f"\n\n{told} {answer}.", f"\n\n{asked} {told}", f" {answer}", "."


def encode_inside(sp, text):
    """The tokens of text as they stand within a longer one."""
    before = sp.encode("x")
    ids = sp.encode("x" + text)
    assert ids[:len(before)] == before, text
    return ids[len(before):]


def main():
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    p.add_argument("books", type=Path)
    p.add_argument("tokenizer")
    p.add_argument("out", type=Path)
    p.add_argument("--held-out", type=Path, required=True, help="folder of novels that must not be among the books")
    p.add_argument("--seed", type=int, default=1)
    a = p.parse_args()
    a.out.mkdir(parents=True, exist_ok=True)
    rng = random.Random(a.seed)
    sp = sentencepiece.SentencePieceProcessor(model_file=a.tokenizer)
    held = set().union(*(shingles(f.read_text(errors="replace")) for f in sorted(a.held_out.glob("*.txt"))))
    if not held:
        raise SystemExit(f"{a.held_out} has no texts")
    books, stories = [], []
    for path in sorted(a.books.glob("*.txt")):
        text = path.read_text(errors="replace")
        refuse_held_out(path, text, held)
        if path.name.startswith("tinystories"):
            stories.append(clean(text.replace(END, "")))
        else:
            books.append(partly_clean(text, rng))
    rng.shuffle(books)

    def write(name, texts):
        files = [np.array([sp.bos_id(), *sp.encode(t)], np.uint16) for t in texts]
        np.concatenate(files).tofile(a.out / name)
        print(f"{name}: {len(files)} texts, {sum(map(len, files))} tokens", flush=True)

    write("books.bin", books)
    tales = [s for text in stories for s in re.split(r"\n\n(?=Once |One day)", text) if len(s) > 200]
    write("stories.bin", stories)
    write("cast.bin", cast_documents(tales, rng))

    rows = [fact(rng) for _ in range(FACTS)]
    told = [encode_inside(sp, r[1]) for r in rows]
    asked = [encode_inside(sp, r[2] + r[3] + r[4]) for r in rows]
    pad = lambda xs: np.array([x + [0] * (max(map(len, xs)) - len(x)) for x in xs], np.uint16)
    np.savez(a.out / "facts.npz", told=pad(told), told_len=[*map(len, told)], asked=pad(asked), asked_len=[*map(len, asked)])
    print(f"facts.npz: {FACTS} facts")


if __name__ == "__main__":
    main()
