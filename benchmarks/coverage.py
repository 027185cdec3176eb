"""How often the intervals of claims hold the truth: `python -m benchmarks.coverage`.

Samples and projections are drawn anew from a population with closed forms (`testing.population`). The truth, a mean
over many fresh samples and projections, is held against the 95 % interval of each audit. 92 to 97 % shall hold it. The
last column is of the wider intervals that verdicts are read from, at 95 % as well.
`--tails` draws Gaussian means with two variances instead, and says how much oftener than they say the intervals of two
rules miss.
"""

from __future__ import annotations

import argparse
import time
from itertools import product

import numpy as np
from scipy.special import stdtrit

from robustness_core.claims.resampling import estimate
from robustness_core.optimal_loss.statistics import half_budget, quantile
from testing.population import Population, halves, means

NAMES = ("mean distance", "ε½", "difference of ε½", "ratio of ε½")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--audits", type=int, default=600, help="of each S and N")
    parser.add_argument("--truth", type=int, default=20_000, help="samples, each of one projection, for the truth")
    parser.add_argument("--sizes", nargs="+", default=["20:3", "20:5", "20:10"], metavar="S:N")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--tails", action="store_true", help="instead: how often two rules miss at small α")
    args = parser.parse_args()
    if args.tails:
        tails(args.seed)
        return
    population = Population.of(args.seed)
    print(
        f"{'S':>5}{'N':>4}{'audits':>8}  {'':<18}{'truth':>9}{'covered':>9}{'± mean':>9}{'too low':>9}{'too high':>10}"
        f"{'joint':>9}"
    )
    truths: dict[int, list[float]] = {}
    for size in args.sizes:
        S, N = (int(part) for part in size.split(":"))
        if S not in truths:
            truths[S] = truth(population, S, max(500, args.truth * 20 // S), args.seed)
        began = time.perf_counter()
        random = np.random.default_rng([args.seed, S, N])
        ends = np.array([intervals(population, S, N, random) for _ in range(args.audits)])  # (audits, statistic, 4)
        for number, name in enumerate(NAMES):
            low, high, joint_low, joint_high = ends[:, number].T
            known = truths[S][number]
            below, above = (high < known).mean(), (low > known).mean()
            joint = ((joint_low <= known) & (known <= joint_high)).mean()
            print(
                f"{S:>5}{N:>4}{len(ends):>8}  {name:<18}{known:>9.4f}{1 - below - above:>9.1%}"
                f"{(high - low).mean() / 2:>9.4f}{below:>9.1%}{above:>10.1%}{joint:>9.1%}",
                flush=True,
            )
        print(f"# {time.perf_counter() - began:.0f} s", flush=True)


def truth(population: Population, S: int, samples: int, seed: int) -> list[float]:
    random = np.random.default_rng([seed, S])
    drawn = []
    for _ in range(samples):
        (one,), (other,) = population.audit(S, 1, random)
        drawn.append((one.mean(), half_budget(one), half_budget(other)))
    mean, first, second = np.mean(drawn, axis=0)
    return [float(mean), float(first), float(second - first), float(np.log(second / first))]


def intervals(population: Population, S: int, N: int, random: np.random.Generator) -> list[tuple[float, ...]]:
    one, other = population.audit(S, N, random)
    first, second = halves(one), halves(other)
    found = [
        estimate(lambda x: x, means(one)),
        estimate(lambda x: x, first),
        estimate(lambda x, y: y - x, first, second),
        estimate(lambda x, y: np.log(y / x), first, second),
    ]
    both = [(one.interval(), one.joint(0.95)) for one in found]
    return [(single.low, single.high, joint.low, joint.high) for single, joint in both]


def tails(seed: int, draws: int = 400_000, images: int = 38) -> None:
    """A mean whose variance has a share estimated from N projections and the rest from `images` degrees of freedom."""
    random = np.random.default_rng(seed)
    print(
        f"{'N':>3}{'share':>7}{'α':>8}  misses / α: quantiles weighted (Cochran & Cox), common freedom (Satterthwaite)"
    )
    for N, share, alpha in product((3, 5, 10), (0.9, 0.5, 0.1), (0.05, 0.0025)):
        error = np.abs(random.standard_normal(draws))
        drawn = share * random.chisquare(N - 1, draws) / (N - 1)
        rest = (1 - share) * random.chisquare(images, draws) / images
        root = np.sqrt(drawn + rest)
        weighted = (drawn * quantile(N - 1, 1 - alpha, 1) + rest * quantile(images, 1 - alpha, 1)) / root
        freedom = root**4 / (drawn**2 / (N - 1) + rest**2 / images)
        common = stdtrit(freedom, 1 - alpha / 2) * root
        missed = [(error > half).mean() / alpha for half in (weighted, common)]
        print(f"{N:>3}{share:>7}{alpha:>8}{missed[0]:>14.2f}{missed[1]:>14.2f}")


if __name__ == "__main__":
    main()
