"""Golden numbers for the evaluator's measures and statistics.

Run by hand: python make_goldens.py, with pytrec_eval, scipy and numpy installed; writes the JSON files beside it.
The outputs are committed; the tests need no Python.
"""

import collections
import json
import pathlib
import re
import string

import numpy as np
import pytrec_eval
import scipy.stats

HERE = pathlib.Path(__file__).parent
MEASURES = [
    "ndcg", "map", "recip_rank", "Rprec", "bpref",
    *(f"{name}_{k}" for name in ("ndcg_cut", "map_cut", "recall", "P", "success") for k in (1, 5, 10, 100)),
]


def write(name, value):
    text = json.dumps(value, separators=(",", ":"), ensure_ascii=False)
    (HERE / name).write_text(text + "\n", encoding="utf-8")


def ranking_case(rng, max_grade, ties):
    """Random graded run: ties, queries missing on either side, unjudged and never retrieved documents."""
    documents = [f"d{i}" for i in range(60)] + ["D1", "D10", "zeta", "é1"]
    qrels, run = {}, {}
    for query in range(8):
        judged = rng.choice(documents, size=rng.integers(1, 40), replace=False)
        grades = {str(d): int(rng.integers(-1 if max_grade > 1 else 0, max_grade + 1)) for d in judged}
        if query == 6:
            grades = {d: 0 for d in grades}
        retrieved = rng.choice(documents, size=rng.integers(1, 55), replace=False)
        scores = rng.integers(0, 6, len(retrieved)) / 2 if ties else rng.normal(size=len(retrieved)) * 10
        if query != 0:
            qrels[f"q{query}"] = grades
        if query != 1:
            run[f"q{query}"] = {str(d): float(s) for d, s in zip(retrieved, scores)}
    return qrels, run


def trec_eval():
    rng = np.random.default_rng(0)
    names = {re.sub(r"_\d+$", "", m) if re.search(r"_\d+$", m) else m for m in MEASURES}
    requested = {f"{n}.1,5,10,100" if n in ("ndcg_cut", "map_cut", "recall", "P", "success") else n for n in names}
    cases = []
    for number in range(6):
        qrels, run = ranking_case(rng, max_grade=3 if number % 2 else 1, ties=number % 3 != 0)
        if number == 5:  # equal in float32, not in double
            run["q2"] = {d: 1.0 + i * 1e-10 for i, d in enumerate(run["q2"])}
        values = pytrec_eval.RelevanceEvaluator(qrels, requested).evaluate(run)
        per_query = {q: {m: v[m] for m in MEASURES} for q, v in values.items()}
        cases.append({"qrels": qrels, "run": run, "per_query": per_query})
    write("trec_eval.json", {"measures": MEASURES, "cases": cases})


def fidelity():
    rng = np.random.default_rng(1)
    cases = []
    for n in (2, 3, 5, 10, 20, 20, 40, 100):
        order, reference = rng.permutation(n), rng.permutation(n)
        if n == 40:
            order = reference[::-1]
        place, wanted = np.argsort(order), np.argsort(reference)
        tau = scipy.stats.kendalltau(place, wanted).statistic
        cut = min(10, n)
        hits = np.isin(order[:cut], reference[:cut])
        discount = 1 / np.log2(np.arange(cut) + 2)
        discordant = sum((place[i] - place[j]) * (wanted[i] - wanted[j]) < 0 for i in range(n) for j in range(i))
        cases.append({
            "order": order.tolist(), "reference": reference.tolist(), "kendall_tau": float(tau),
            "ranking": float((tau + 1) / 2), "spearman": float(scipy.stats.spearmanr(place, wanted).statistic),
            "footrule": float(np.abs(place - wanted).sum()), "kemeny": float(discordant),
            "recall_at_10": float(hits.mean()), "ndcg_at_10": float((hits * discount).sum() / discount.sum()),
        })
    write("fidelity.json", cases)


def stats():
    rng = np.random.default_rng(2)
    tests, bootstraps = [], []
    for n in (2, 5, 43, 300):
        baseline = rng.random(n)
        values = np.clip(baseline + rng.normal(0.03, 0.1, n), 0, 1)
        result = scipy.stats.ttest_rel(values, baseline)
        tests.append({"values": values.tolist(), "baseline": baseline.tolist(),
                      "statistic": float(result.statistic), "p_value": float(result.pvalue)})
        if n > 2:
            interval = scipy.stats.bootstrap((values,), np.mean, n_resamples=50_000, method="percentile",
                                             rng=np.random.default_rng(n)).confidence_interval
            bootstraps.append({"values": values.tolist(), "low": float(interval.low), "high": float(interval.high)})
    percentiles = [{"values": (v := rng.random(n)).tolist(), "percent": p, "value": float(np.percentile(v, p))}
                   for n in (1, 2, 7, 20) for p in (0, 2.5, 50, 95, 100)]
    write("stats.json", {"t_tests": tests, "bootstraps": bootstraps, "percentiles": percentiles})


def squad_normalise(text):
    """The rules of SQuAD's evaluation: lower case, punctuation out, articles out, blanks single."""
    text = "".join(c for c in text.lower() if c not in set(string.punctuation))
    return " ".join(re.sub(r"\b(a|an|the)\b", " ", text).split())


def squad_f1(prediction, answer):
    got, wanted = squad_normalise(prediction).split(), squad_normalise(answer).split()
    common = sum((collections.Counter(got) & collections.Counter(wanted)).values())
    return 0.0 if common == 0 else 2 * common / (len(got) + len(wanted))


def squad():
    pairs = [
        (["the Eiffel Tower", "Eiffel Tower"], "Eiffel tower."), (["1,000", "a thousand"], "1000"),
        (["Theodore"], "the odore"), (["Saint–Denis"], "the–Saint–Denis"), (["an apple a day"], "apple day apple"),
        (["U.S."], "us"), (["naïve café"], "Naïve  cafe"), (["blue"], ""), (["the"], "the"), (["x_a b"], "x_a a_b"),
        (["in 1889", "1889"], "it opened in 1889"), (["30 %"], "30%"), (["“quoted” words"], "quoted words"),
        (["İstanbul"], "istanbul"),
    ]
    questions = {f"q{i}": answers for i, (answers, _) in enumerate(pairs)} | {"unanswered": ["yes"]}
    predictions = {f"q{i}": prediction for i, (_, prediction) in enumerate(pairs)}
    per_question = {}
    for key, answers in questions.items():
        if key not in predictions:
            per_question[key] = (0.0, 0.0)
            continue
        exact = max(float(squad_normalise(predictions[key]) == squad_normalise(a)) for a in answers)
        per_question[key] = (exact, max(squad_f1(predictions[key], a) for a in answers))
    n = len(questions)
    write("squad.json", {
        "questions": questions, "predictions": predictions, "per_question": per_question,
        "exact_match": 100 * sum(v[0] for v in per_question.values()) / n,
        "f1": 100 * sum(v[1] for v in per_question.values()) / n,
    })


if __name__ == "__main__":
    trec_eval()
    fidelity()
    stats()
    squad()
