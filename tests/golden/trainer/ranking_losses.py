"""Golden numbers of the learning-to-rank losses, written from the papers with plain loops, gradients by autograd.

    python ranking_losses.py > ranking_losses.json

Each case: scores [lists, n], target ranks [lists, n] (1 is best); per loss the sum over lists and its gradient. float64
throughout, so the Rust side (float32) is compared at 1e-4 relative.
"""

import json
import math

import torch


def permuted_own_scores(scores, ranks):
    """Candidate of rank r gets the r-th largest of its list's own scores; no gradient."""
    ordered = sorted((value.item() for value in scores), reverse=True)
    return [ordered[rank - 1] for rank in ranks]


def rank_net(scores, ranks, weighted):
    n = len(ranks)
    total = 0.0
    for i in range(n):
        for j in range(n):
            if ranks[i] < ranks[j]:
                weight = 1.0 / (ranks[i] + ranks[j]) if weighted else 1.0
                total = total + weight * torch.log1p(torch.exp(scores[j] - scores[i]))
    return total / (n * (n - 1) / 2)


def list_net(scores, ranks):
    target = torch.softmax(torch.tensor(permuted_own_scores(scores, ranks), dtype=torch.float64), 0)
    return -(target * torch.log_softmax(scores, 0)).sum()


def lambda_rank(scores, ranks):
    n = len(ranks)
    relevance = permuted_own_scores(scores, ranks)
    least = min(relevance)
    gains = [2.0 ** (value - least) - 1.0 for value in relevance]
    ideal = sum(gain / math.log2(1 + rank) for gain, rank in zip(gains, ranks))
    gains = [gain / ideal for gain in gains]
    by_score = sorted(range(n), key=lambda i: -scores[i].item())
    place = {candidate: position + 1 for position, candidate in enumerate(by_score)}
    total = 0.0
    for i in range(n):
        for j in range(n):
            if ranks[i] < ranks[j]:
                distance = abs(place[i] - place[j])
                delta = abs(1 / math.log2(1 + distance) - 1 / math.log2(2 + distance))
                weight = delta * abs(gains[i] - gains[j])
                total = total - weight * torch.log2(torch.sigmoid(scores[i] - scores[j]))
    return total / (n * (n - 1) / 2)


def adr_mse(scores, ranks):
    n = len(ranks)
    total = 0.0
    for i in range(n):
        approximate = 1.0 + sum(torch.sigmoid(scores[j] - scores[i]) for j in range(n) if j != i)
        total = total + (ranks[i] - approximate) ** 2 / math.log2(1 + ranks[i])
    return total / n


LOSSES = {
    "weighted_rank_net": lambda s, r: rank_net(s, r, True),
    "rank_net": lambda s, r: rank_net(s, r, False),
    "list_net": list_net,
    "lambda_rank": lambda_rank,
    "adr_mse": adr_mse,
}


def main():
    generator = torch.Generator().manual_seed(20)
    cases = []
    for lists, n, scale, shift in [(1, 2, 1.0, 0.0), (3, 5, 2.0, -4.0), (2, 20, 3.0, 12.0)]:
        scores = torch.randn(lists, n, generator=generator, dtype=torch.float64) * scale + shift
        ranks = [(torch.randperm(n, generator=generator) + 1).tolist() for _ in range(lists)]
        losses = {}
        for name, loss in LOSSES.items():
            leaf = scores.clone().requires_grad_(True)
            total = sum(loss(leaf[i], ranks[i]) for i in range(lists))
            total.backward()
            losses[name] = {"sum": total.item(), "gradient": leaf.grad.flatten().tolist()}
        cases.append({"lists": lists, "n": n, "scores": scores.flatten().tolist(), "ranks": sum(ranks, []), "losses": losses})
    print(json.dumps({"torch": torch.__version__, "seed": 20, "cases": cases}, indent=1))


if __name__ == "__main__":
    main()
