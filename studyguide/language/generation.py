"""How a causal model is asked for one token after the other: step by step, or with several beams at once.

`studyguide.language.sampling.generate` checks the arguments and says how a token is chosen; the loops are here. The model
keeps the keys and values of what it has read in a cache, so that a step costs one token per row.
"""

from dataclasses import dataclass

import torch
from torch.nn.functional import pad as pad_right

from studyguide.probability.validation import common_dtype


@dataclass(frozen=True, eq=False)
class Generation:
    """What a model wrote after each prompt of a batch, and how probable each token was.

    Shapes: (batch, steps) unless said otherwise. A row that has stopped is filled up with padding, whose probabilities
    are 1 and whose alternatives have probability 0.
    """

    tokens: torch.Tensor
    lengths: torch.Tensor  # (batch,) tokens written, the stop token included
    probabilities: torch.Tensor  # of each token, under the model
    drawn_probabilities: torch.Tensor  # under the distribution it was drawn from; 1 in greedy and beam search
    top_tokens: torch.Tensor  # (batch, steps, top) the model's favourites, most probable first
    top_probabilities: torch.Tensor  # (batch, steps, top)
    log_likelihood: torch.Tensor  # (batch,) sum of the logs of `probabilities`


def step_by_step(model, ids, mask, max_new_tokens, stop, padding, top, choose):
    """A Generation in which ``choose(logits, ids)`` gives each token, and the probability of its draw."""
    logits, cache = _read(model, ids, mask)
    running = mask[:, -1].bool()
    steps = []
    while True:
        token, drawn = choose(logits[:, -1], ids)
        log_p = logits[:, -1].log_softmax(-1)
        best = log_p.topk(top)
        steps.append((token, running, drawn, log_p.gather(-1, token[:, None])[:, 0], best.indices, best.values))
        running = running & ~torch.isin(token, stop)
        if len(steps) == max_new_tokens or not running.any():
            break
        ids, mask = torch.cat([ids, token[:, None]], -1), pad_right(mask, (0, 1), value=1)
        logits, cache = _read(model, token[:, None], mask, cache)
    return _generation(padding, *(torch.stack(column, 1) for column in zip(*steps, strict=True)))


def beam_search(model, ids, mask, max_new_tokens, stop, padding, top, num_beams, length_penalty, adjust):
    """A Generation of the best sequences that `num_beams` beams find, by log-likelihood / length ** length_penalty.

    ``adjust(log_p, ids)`` may change the log-probabilities before they are added up. A row goes on until it has
    `num_beams` ended sequences and no running beam, as long as it is now, scores above the worst of them.
    """
    row = torch.arange(len(ids), device=ids.device)[:, None]
    logits, cache = _read(model, ids, mask)
    logits, prompts, beam_mask = (x.repeat_interleave(num_beams, 0) for x in (logits, ids, mask))
    cache.batch_repeat_interleave(num_beams)
    beams = ids.new_empty(len(ids), num_beams, 0)
    score = logits.new_full((len(ids), num_beams), -torch.inf)
    score[:, 0] = 0  # the beams of a row are still equal: the others would only repeat the first
    ended = ids.new_full((len(ids), num_beams, max_new_tokens), padding)
    ended_score = torch.full_like(score, -torch.inf)
    improving = torch.ones_like(row, dtype=torch.bool)
    for length in range(1, max_new_tokens + 1):
        log_p = adjust(logits[:, -1].log_softmax(-1), torch.cat([prompts, beams.flatten(0, 1)], -1))
        total = (score.reshape(-1, 1) + log_p).reshape(len(ids), -1)
        total, index = total.topk(min(num_beams * max(2, 1 + len(stop)), total.shape[-1]))  # enough that some go on
        parent, token = index // log_p.shape[-1], index % log_p.shape[-1]
        candidates = torch.cat([beams[row, parent], token[..., None]], -1)
        stops = torch.isin(token, stop) | (length == max_new_tokens)

        # what ends now, if it is among the best num_beams, against what has ended before
        new_score = (total / length**length_penalty).masked_fill(~(stops & improving), -torch.inf)[:, :num_beams]
        new = pad_right(candidates[:, :num_beams], (0, max_new_tokens - length), value=padding)
        ended_score, kept = torch.cat([ended_score, new_score], -1).topk(num_beams)
        ended = torch.cat([ended, new], 1)[row, kept]

        # what goes on
        score, kept = total.masked_fill(stops, -torch.inf).topk(num_beams)
        improving = improving & (score[:, :1] / length**length_penalty > ended_score[:, -1:])
        if not improving.any():
            break
        beams = candidates[row, kept]
        cache.reorder_cache((row * num_beams + parent[row, kept]).flatten())
        beam_mask = pad_right(beam_mask, (0, 1), value=1)
        logits, cache = _read(model, beams[..., -1].reshape(-1, 1), beam_mask, cache)
    return _rated(model, ids, mask, ended[:, 0], stop, padding, top)


def _read(model, ids, mask, cache=None, keep=1):
    """(logits at the last `keep` positions, cache) after reading `ids`; `mask` covers what is in the cache, too."""
    positions = (mask.cumsum(-1) - 1).clamp(min=0)[:, -ids.shape[1] :]
    output = model(
        ids, attention_mask=mask, position_ids=positions, past_key_values=cache, use_cache=True, logits_to_keep=keep
    )
    return output.logits.to(common_dtype(output.logits)[1]), output.past_key_values


def _rated(model, ids, mask, tokens, stop, padding, top):
    """The Generation of tokens that were found another way: the model reads them once, all together."""
    stops = torch.isin(tokens, stop).long()
    written = stops.cumsum(-1) - stops == 0  # no stop token before
    steps = int(written.sum(-1).max())
    tokens, written = tokens[:, :steps], written[:, :steps]
    logits, _ = _read(model, torch.cat([ids, tokens[:, :-1]], -1), pad_right(mask, (0, steps - 1), value=1), keep=steps)
    log_p = logits.log_softmax(-1)
    best, chosen = log_p.topk(top), log_p.gather(-1, tokens[..., None])[..., 0]
    return _generation(padding, tokens, written, torch.ones_like(chosen), chosen, best.indices, best.values)


def _generation(padding, tokens, written, drawn, log_p, top_tokens, top_log_p):
    if log_p.isnan().any():
        raise ValueError("model gave logits that are NaN or inf; expected finite ones, so that a token can be chosen")
    return Generation(
        tokens=tokens.where(written, padding),
        lengths=written.sum(-1),
        probabilities=log_p.exp().where(written, 1),
        drawn_probabilities=drawn.where(written, 1),
        top_tokens=top_tokens.where(written[..., None], padding),
        top_probabilities=top_log_p.exp().where(written[..., None], 0),
        log_likelihood=log_p.where(written, 0).sum(-1),
    )
