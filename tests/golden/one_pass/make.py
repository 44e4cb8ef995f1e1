"""Rankings by the procedure of the published ONE-PASS code, from random probabilities and head weights.

Written from the published procedure, item by item, with dictionaries of subsets; nothing is shared with our code.
Needs torch, numpy and safetensors:  python tests/golden/one_pass/make.py
"""

import itertools
import math
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file

LISTS = 2


def divide(n, k):
    halves = [[item for item in range(n) if item % (2 * k) == half] for half in range(2 * k)]
    groups = [sorted(halves[2 * i] + halves[2 * i + 1]) for i in range(k)]
    duals = [sorted(halves[2 * i - 1] + halves[2 * i]) for i in range(k)]
    return groups, duals


def subsets(items, smallest=1):
    return [frozenset(c) for size in range(smallest, len(items) + 1) for c in itertools.combinations(sorted(items), size)]


class Published:
    def __init__(self, n, k, p, pairs, head):
        self.n, self.p, self.pairs, self.head = n, p, pairs, head
        self.groups, self.duals = divide(n, k)

    def pool(self, rows):
        """Column sums of softmax(Q K^T / sqrt(n)) X + X."""
        x = torch.tensor(np.stack(rows), dtype=torch.float64)
        q = x @ self.head["q.weight"].double().T + self.head["q.bias"].double()
        k = x @ self.head["k.weight"].double().T + self.head["k.bias"].double()
        attention = torch.softmax(q @ k.T / math.sqrt(self.n), dim=-1)
        return (attention @ x + x).sum(0).numpy()

    def coefficients(self, items):
        """Without the empty set, smallest subsets first."""
        found = {}
        for subset in subsets(items):
            found[subset] = self.p[subset] - sum((found[s] for s in found if s < subset), np.zeros(self.n))
        return list(found.values())

    def scores(self, variant, placed):
        zero = np.zeros(self.n)
        part = lambda group: [item for item in placed if item in group]
        groups = [part(group) for group in self.groups]
        duals = [part(group) for group in self.duals]
        p = lambda items: self.p[frozenset(items)]
        if variant == "permutation":
            return self.pairs[tuple(placed[:2])]
        if variant == "naive_add":
            return sum((p(items) for items in groups if items), zero)
        if variant == "wo_has":
            own = sum((p(items) - p([]) for items in groups if items), zero)
            return own + sum((sum(self.coefficients(items)) for items in duals if items), zero)
        if variant == "one_pass":
            own = sum((sum(self.coefficients(items)) for items in groups if items), zero)
            inner = [self.pool(self.coefficients(items)) if items else zero for items in duals]
            return own + self.pool(inner)
        rows = [self.pool([p(items)]) if items else zero for items in groups]
        for items in duals:
            of = [frozenset(items)] if variant == "wo_mobius_1" else subsets(items)
            rows.append(self.pool([self.p[s] for s in of]) if items else zero)
        return self.pool(rows)

    def rank(self, variant):
        placed = [int(np.argmax(self.p[frozenset()]))]
        while len(placed) < self.n:
            scores = self.scores(variant, placed)
            left = [item for item in range(self.n) if item not in placed]
            placed.append(max(left, key=lambda item: (scores[item], -item)))
        return placed


def main():
    generator = torch.Generator().manual_seed(7)
    random = lambda *size: torch.randn(*size, generator=generator)
    out = {}
    for n, k in [(9, 2), (20, 5), (25, 5)]:
        groups, duals = divide(n, k)
        sets = sorted({s for group in groups + duals for s in subsets(group, 0)}, key=sorted)
        pairs = [(-1,)] + [(a, b) for a in range(n) for b in range(n)]  # (a, a) stands for a alone
        rows = lambda count: torch.softmax(1.5 * random(LISTS, count, n), -1).half()
        set_rows, pair_rows = rows(len(sets)), rows(len(pairs))
        pair_rows[:, 0] = set_rows[:, sets.index(frozenset())]
        head = {name: 2 * random(*size) for name, size in
                {"q.weight": (n, n), "q.bias": (n,), "k.weight": (n, n), "k.bias": (n,)}.items()}
        out[f"{n}.sets"] = torch.tensor([sum(1 << item for item in s) for s in sets])
        out[f"{n}.set_rows"] = set_rows
        out[f"{n}.pairs"] = torch.tensor([-1] + [a * n + b for a, b in pairs[1:]])
        out[f"{n}.pair_rows"] = pair_rows
        out.update({f"{n}.{name}": value for name, value in head.items()})
        for variant in ["one_pass", "wo_has", "wo_mobius_1", "wo_mobius_2", "naive_add", "permutation"]:
            orders = []
            for index in range(LISTS):
                p = {s: set_rows[index, i].double().numpy() for i, s in enumerate(sets)}
                by_pair = {pair: pair_rows[index, i].double().numpy() for i, pair in enumerate(pairs)}
                by_pair.update({(a,): by_pair[(a, a)] for a in range(n)})
                orders.append(Published(n, k, p, by_pair, head).rank(variant))
            out[f"{n}.order.{variant}"] = torch.tensor(orders)
    save_file({name: value.contiguous() for name, value in out.items()}, Path(__file__).parent / "orders.safetensors")


if __name__ == "__main__":
    main()
