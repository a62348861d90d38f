"""One set of texts under every convention: why two libraries print two scores."""

import warnings
from itertools import zip_longest
from statistics import fmean
from types import SimpleNamespace

from studyguide.text.bleu import corpus_bleu, sentence_bleu
from studyguide.text.chrf import corpus_chrf
from studyguide.text.edit import ter
from studyguide.text.meteor import meteor
from studyguide.text.ngrams import check_corpus
from studyguide.text.rouge import corpus_rouge

NO_WORDNET = SimpleNamespace(synsets=lambda word: [])  # lets nltk's METEOR run on exact forms and stems


def compare_conventions(hypotheses, references):
    """The scores of the same texts under the usual conventions, beside those of the library that has each convention.

    `hypotheses` is a list of strings, `references` a list of references for each. Returns {column: list}, ready for
    `studyguide.course.table`: metric, convention (tokenizer, then what else matters), score, library, and the library's own score ("" where none has the
    convention). BLEU, chrF and TER are out of 100, ROUGE (F1 unless it says recall) and METEOR out of 1.
    Errors: a flat list of references, unequal lengths, no text.

    >>> columns = compare_conventions(["the cat sat on the mat"], [["the cat sat on a mat"]])
    >>> {metric: round(score, 2) for metric, score in zip(columns["metric"], columns["score"]) if metric == "TER"}
    {'TER': 16.67}
    """
    hypotheses, references = check_corpus(hypotheses, references)
    rows = [*_bleu(hypotheses, references), *_rouge(hypotheses, references), *_others(hypotheses, references)]
    names = ("metric", "convention", "score", "library", "its score")
    return {name: list(column) for name, column in zip(names, zip(*rows, strict=True), strict=True)}


def _bleu(hypotheses, references):
    import sacrebleu
    from nltk.translate import bleu_score as nltk

    texts = list(zip(hypotheses, references, strict=True))
    streams = list(zip_longest(*references))  # sacrebleu's order: the first references of all texts, then the second
    for note, ours, theirs in (
        ("13a, exp", {}, {}),
        ("13a, exp, lower case", {"lowercase": True}, {"lowercase": True}),
        ("13a, none", {"smoothing": "none"}, {"smooth_method": "none"}),
        ("intl, exp", {"tokenize": "intl"}, {"tokenize": "intl"}),
        ("char, exp", {"tokenize": "char"}, {"tokenize": "char"}),
    ):
        score = sacrebleu.corpus_bleu(hypotheses, streams, force=True, **theirs).score
        yield "BLEU", f"corpus, {note}", corpus_bleu(hypotheses, references, **ours).score, "sacrebleu", score
    score = fmean(sacrebleu.sentence_bleu(text, others).score for text, others in texts)
    yield "BLEU", "mean of sentences, 13a, exp", fmean(sentence_bleu(*pair).score for pair in texts), "sacrebleu", score

    split = [([other.split() for other in others], text.split()) for text, others in texts]
    for smoothing, method in (("none", "method0"), ("floor", "method1")):
        smooth = getattr(nltk.SmoothingFunction(), method)
        settings = {"tokenize": "whitespace", "smoothing": smoothing, "effective_order": False}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # nltk warns where nothing matches; the row shows what it returns then
            score = 100 * fmean(nltk.sentence_bleu(*pair, smoothing_function=smooth) for pair in split)
        ours = fmean(sentence_bleu(*pair, **settings).score for pair in texts)
        yield "BLEU", f"mean of sentences, whitespace, {smoothing}", ours, f"nltk {method}", score


def _rouge(hypotheses, references):
    from rouge_score.rouge_scorer import RougeScorer

    kinds = {"rouge1": "ROUGE-1", "rouge2": "ROUGE-2", "rougeL": "ROUGE-L"}
    for stem in (False, True):
        scorer = RougeScorer(list(kinds), use_stemmer=stem)
        scores = [scorer.score_multi(others, text) for text, others in zip(hypotheses, references, strict=True)]
        ours = {
            name: corpus_rouge(hypotheses, references, list(kinds), tokenize=name, stem=stem)
            for name in ("rouge", "unicode")
        }
        note = ", stems" if stem else ""
        for kind, name in kinds.items():
            theirs = fmean(score[kind].fmeasure for score in scores)
            yield name, f"rouge{note}", ours["rouge"][kind].f1, "rouge-score", theirs
            yield name, f"unicode{note}", ours["unicode"][kind].f1, "", ""
            if kind == "rouge1":
                theirs = fmean(score[kind].recall for score in scores)
                yield name, f"rouge{note}, recall", ours["rouge"][kind].recall, "rouge-score", theirs


def _others(hypotheses, references):
    import sacrebleu
    from nltk.translate.meteor_score import meteor_score

    texts = list(zip(hypotheses, references, strict=True))
    streams = list(zip_longest(*references))
    theirs = fmean(meteor_score([t.split() for t in o], text.split(), wordnet=NO_WORDNET) for text, o in texts)
    split = fmean(meteor(*pair, tokenize="whitespace").score for pair in texts)
    yield "METEOR", "whitespace, no synonyms", split, "nltk", theirs
    yield "METEOR", "unicode, no synonyms", fmean(meteor(*pair).score for pair in texts), "", ""
    for name, order in (("chrF", 0), ("chrF++", 2)):
        theirs = sacrebleu.corpus_chrf(hypotheses, streams, word_order=order).score
        yield name, "corpus", corpus_chrf(hypotheses, references, word_order=order), "sacrebleu", theirs
    yield "TER", "corpus", ter(hypotheses, references), "sacrebleu", sacrebleu.corpus_ter(hypotheses, streams).score
