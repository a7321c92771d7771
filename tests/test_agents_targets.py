"""What values are taught, against arithmetic by hand and against loops in float64 over generated cases."""

import math

import pytest
import torch

from drivetrain.agents.targets import (
    greedy_values,
    importance_weights,
    ladder,
    lambda_returns,
    log_policy,
    munchausen_bonus,
    n_step,
    pick,
    quantile_huber,
    soft_values,
)

CASES = 2_000


def case(seed):
    """A generator, random sizes, and how often episodes end in this case."""
    rng = torch.Generator().manual_seed(seed)
    sizes = [int(torch.randint(1, 9, (), generator=rng)) for _ in range(4)]
    odds = float(torch.rand((), generator=rng)) * 0.6
    return rng, sizes, odds


def draw(rng, *shape):
    return torch.randn(shape, generator=rng, dtype=torch.float64)


def flags(rng, odds, *shape):
    return torch.rand(shape, generator=rng) < odds


# ---- n-step --------------------------------------------------------------------------------------------------------


@pytest.mark.golden
def test_an_n_step_return_stops_at_deaths_limits_and_the_end_of_the_record():
    # γ = ½, rewards 1, 2, 4 in every row:
    #   nothing ends: 1 + ½·2 + ¼·4 = 3, then γ³ = ⅛ of the state three rows on
    #   death at the second: 1 + ½·2 = 2, and no future;   limit at the second: 2, then γ² of the state two rows on
    #   recorded up to the first: 1, then γ;                death and limit at once in the first: 1, and no future
    reward = torch.tensor([[1.0, 2.0, 4.0]]).expand(5, 3)
    no, yes = False, True
    terminated = torch.tensor([[no, no, no], [no, yes, no], [no, no, yes], [no, no, no], [yes, no, no]])
    truncated = torch.tensor([[no, no, no], [no, no, no], [no, yes, no], [no, no, no], [yes, no, no]])
    valid = torch.tensor([[yes] * 3, [yes] * 3, [yes] * 3, [yes, no, yes], [yes] * 3])
    found = n_step(reward, terminated, truncated, valid, 0.5)
    assert found.return_.tolist() == [3.0, 2.0, 2.0, 1.0, 1.0]
    assert found.discount.tolist() == [0.125, 0.0, 0.25, 0.5, 0.0]
    assert found.length.tolist() == [3, 2, 2, 1, 1]


@pytest.mark.oracle
def test_n_step_returns_equal_a_loop():
    for seed in range(CASES):
        rng, (s, n, *_), odds = case(seed)
        gamma = float(torch.rand((), generator=rng))
        reward = draw(rng, s, n)
        terminated, truncated = flags(rng, odds, s, n), flags(rng, odds, s, n)
        valid = ~flags(rng, odds / 2, s, n)
        valid[:, 0] = True
        found = n_step(reward, terminated, truncated, valid, gamma)
        for i in range(s):
            total, length, discount = 0.0, 0, None
            for j in range(n):
                if not valid[i, j]:
                    break
                total += gamma**j * float(reward[i, j])
                length = j + 1
                discount = gamma**length
                if terminated[i, j]:
                    discount = 0.0
                if terminated[i, j] or truncated[i, j]:
                    break
            assert float(found.return_[i]) == pytest.approx(total, abs=1e-12)
            assert int(found.length[i]) == length
            assert float(found.discount[i]) == pytest.approx(discount, abs=1e-12)


# ---- λ-returns -----------------------------------------------------------------------------------------------------


@pytest.mark.golden
def test_a_lambda_return_bootstraps_through_a_time_limit_and_does_not_leak_across_it():
    # γ = λ = ½, rewards 1, next values 4, 8, 2.   t2: 1 + ½·2 = 2.   t1 (cut off): 1 + ½·8 = 5, nothing of t2.
    # t0: 1 + ½·(½·5 + ½·4) = 3.25.   Were t1 a death: t1 = 1, t0 = 1 + ½·(½·1 + ½·4) = 2.25
    column = lambda *values: torch.tensor(values)[:, None]
    cut, never = column(False, True, False), column(False, False, False)
    ones, after = column(1.0, 1.0, 1.0), column(4.0, 8.0, 2.0)
    assert lambda_returns(ones, after, never, cut, 0.5, 0.5)[:, 0].tolist() == [3.25, 5.0, 2.0]
    assert lambda_returns(ones, after, cut, never, 0.5, 0.5)[:, 0].tolist() == [2.25, 1.0, 2.0]
    assert lambda_returns(ones, after, cut, cut, 0.5, 0.5)[:, 0].tolist() == [2.25, 1.0, 2.0]


@pytest.mark.oracle
def test_lambda_returns_equal_the_weighted_sum_of_all_n_step_returns():
    for seed in range(CASES):
        rng, (t_max, lanes, *_), odds = case(seed)
        gamma, lam = (float(torch.rand((), generator=rng)) for _ in range(2))
        reward, after = draw(rng, t_max, lanes), draw(rng, t_max, lanes)
        terminated, truncated = flags(rng, odds, t_max, lanes), flags(rng, odds, t_max, lanes)
        found = lambda_returns(reward, after, terminated, truncated, gamma, lam)
        for b in range(lanes):
            for t in range(t_max):
                last = next((k for k in range(t, t_max) if terminated[k, b] or truncated[k, b]), t_max - 1)
                total, rewards = 0.0, 0.0
                for k in range(t, last + 1):  # the return of k − t + 1 steps, with what is left of the weight at last
                    rewards += gamma ** (k - t) * float(reward[k, b])
                    future = 0.0 if terminated[k, b] else float(after[k, b])
                    whole = rewards + gamma ** (k - t + 1) * future
                    total += whole * lam ** (k - t) * (1.0 if k == last else 1.0 - lam)
                assert float(found[t, b]) == pytest.approx(total, abs=1e-10)


def test_lambda_returns_of_one_step_are_those_of_q_learning():
    rng = torch.Generator().manual_seed(1)
    reward, after, dead = draw(rng, 6, 3), draw(rng, 6, 3), flags(rng, 0.3, 6, 3)
    found = lambda_returns(reward, after, dead, flags(rng, 0.3, 6, 3), 0.9, 0.0)
    torch.testing.assert_close(found, reward + 0.9 * after * ~dead)


# ---- values of the next state --------------------------------------------------------------------------------------


@pytest.mark.golden
def test_double_q_learning_takes_the_targets_value_of_the_action_the_online_network_prefers():
    target = torch.tensor([[1.0, 5.0, 2.0]])[..., None]  # prefers action 1
    online = torch.tensor([[0.0, 3.0, 9.0]])[..., None]  # prefers action 2
    assert greedy_values(target, online).tolist() == [[2.0]]
    assert greedy_values(target, target).tolist() == [[5.0]]


@pytest.mark.golden
def test_actions_of_a_distribution_are_compared_by_their_means():
    # action 0: quantiles 0, 0, 9 (mean 3); action 1: 2, 2, 2 (mean 2): the first is best, and all of it is returned
    values = torch.tensor([[[0.0, 0.0, 9.0], [2.0, 2.0, 2.0]]])
    assert greedy_values(values, values).tolist() == [[0.0, 0.0, 9.0]]


@pytest.mark.oracle
def test_values_of_actions_equal_a_loop():
    for seed in range(CASES):
        rng, (s, a, n, _), _ = case(seed)
        judge, chooser = draw(rng, s, a, n), draw(rng, s, a, n)
        action = torch.randint(0, a, (s,), generator=rng)
        best = greedy_values(judge, chooser)
        for i in range(s):
            means = [sum(float(x) for x in chooser[i, k]) / n for k in range(a)]
            assert best[i].tolist() == judge[i, means.index(max(means))].tolist()
            assert pick(judge, action)[i].tolist() == judge[i, int(action[i])].tolist()


# ---- Munchausen ----------------------------------------------------------------------------------------------------


@pytest.mark.golden
def test_the_log_policy_pays_for_the_likely_action_and_is_clipped():
    # q = 0 and τ·ln 3: π = ¼ and ¾.  τ = 2: τ·ln ¼ = −2.772589, τ·ln ¾ = −0.575364; α = 0.9, clipped to −1
    values = torch.tensor([[0.0, 2 * math.log(3)]]).repeat(2, 1)[..., None]
    bonus = munchausen_bonus(values, torch.tensor([0, 1]), 0.9, 2.0, -1.0)
    assert bonus.tolist() == pytest.approx([-0.9, -0.9 * 0.575364], abs=1e-5)
    # Σ π (q − τ ln π) = ¼·2.772589 + ¾·(2.197225 + 0.575364) = 2.772589 = τ·ln Σ exp(q/τ) = 2 ln 4
    assert soft_values(values, 2.0)[0].tolist() == pytest.approx([2 * math.log(4)], abs=1e-5)


@pytest.mark.oracle
def test_soft_values_and_bonus_equal_a_loop():
    for seed in range(CASES):
        rng, (s, a, n, _), _ = case(seed)
        values, tau = draw(rng, s, a, n), 0.05 + float(torch.rand((), generator=rng))
        action = torch.randint(0, a, (s,), generator=rng)
        soft, bonus = [], []
        for z, taken in zip(values.tolist(), action.tolist(), strict=True):
            q = [sum(quantiles) / n for quantiles in z]
            total = sum(math.exp((x - max(q)) / tau) for x in q)
            scaled = [(x - max(q)) - tau * math.log(total) for x in q]
            odds = [math.exp(x / tau) for x in scaled]
            soft.append([sum(odds[k] * (z[k][j] - scaled[k]) for k in range(a)) for j in range(n)])
            bonus.append(0.7 * min(0.0, max(-0.8, scaled[taken])))
        torch.testing.assert_close(soft_values(values, tau), torch.tensor(soft, dtype=torch.float64))
        found = munchausen_bonus(values, action, 0.7, tau, -0.8)
        torch.testing.assert_close(found, torch.tensor(bonus, dtype=torch.float64))


def test_a_cold_policy_is_the_maximum():
    values = torch.tensor([[1.0, 3.0, 2.0]])[..., None]
    assert soft_values(values, 1e-3).tolist() == [[pytest.approx(3.0, abs=1e-5)]]
    assert log_policy(values, 1e-3)[0].tolist() == pytest.approx([-2.0, 0.0, -1.0], abs=1e-5)


# ---- quantile regression -------------------------------------------------------------------------------------------


@pytest.mark.golden
def test_the_quantile_huber_loss_by_hand():
    # N = 2: p = ¼, ¾; predicted 0 and 3, targets 0.5 and 4; u and |p − 1{u<0}|·L(u), L = ½u² up to 1, |u| − ½ beyond:
    #   i = 0: u = 0.5 → ¼·0.125 = 0.03125;  u = 4 → ¼·3.5 = 0.875;   mean 0.453125
    #   i = 1: u = −2.5 → ¼·2 = 0.5;         u = 1 → ¾·0.5 = 0.375;   mean 0.4375       sum 0.890625
    found = quantile_huber(torch.tensor([[0.0, 3.0]]), torch.tensor([[0.5, 4.0]]))
    assert found.tolist() == pytest.approx([0.890625])


@pytest.mark.oracle
def test_the_quantile_huber_loss_equals_a_loop():
    for seed in range(CASES):
        rng, (s, n, m, _), _ = case(seed)
        predicted, target = 2 * draw(rng, s, n), 2 * draw(rng, s, m)
        kappa = 0.2 + float(torch.rand((), generator=rng))
        found = quantile_huber(predicted, target, kappa).tolist()
        for k, (guesses, truths) in enumerate(zip(predicted.tolist(), target.tolist(), strict=True)):
            total = 0.0
            for i, guess in enumerate(guesses):
                for truth in truths:
                    u = truth - guess
                    size = 0.5 * u * u if abs(u) <= kappa else kappa * (abs(u) - 0.5 * kappa)
                    total += abs((2 * i + 1) / (2 * n) - (u < 0)) * size / kappa / m
            assert found[k] == pytest.approx(total, abs=1e-10)


@pytest.mark.learning
def test_minimising_the_quantile_loss_finds_the_quantiles():
    # of the numbers 0, 1, …, 99 the quantiles of probability 0.1, 0.3, 0.5, 0.7, 0.9 are near 10, 30, 50, 70, 90
    target = torch.arange(100.0, dtype=torch.float64)[None]
    predicted = torch.full((1, 5), 50.0, dtype=torch.float64, requires_grad=True)
    for _ in range(2_000):
        (gradient,) = torch.autograd.grad(quantile_huber(predicted, target).sum(), predicted)
        with torch.no_grad():
            predicted -= 2.0 * gradient
    assert predicted[0].tolist() == pytest.approx([9.5, 29.5, 49.5, 69.5, 89.5], abs=1.0)


# ---- weights and exploration ---------------------------------------------------------------------------------------


@pytest.mark.golden
def test_importance_weights_undo_the_probabilities_as_far_as_beta_says():
    # N = 10, P = 0.1, 0.2, 0.4: (N·P)^−1 = 1, ½, ¼; the largest is 1 already. β = ½: 1, 0.707107, ½; β = 0: all 1
    probability = torch.tensor([0.1, 0.2, 0.4])
    assert importance_weights(probability, 1.0).tolist() == pytest.approx([1.0, 0.5, 0.25])
    assert importance_weights(probability, 0.5).tolist() == pytest.approx([1.0, 0.707107, 0.5], abs=1e-6)
    assert importance_weights(probability, 0.0).tolist() == [1.0, 1.0, 1.0]


@pytest.mark.oracle
def test_importance_weights_equal_the_published_formula():
    for seed in range(CASES):
        rng, (s, *_), _ = case(seed)
        probability, beta = torch.rand(s, generator=rng, dtype=torch.float64), float(torch.rand((), generator=rng))
        size = 1 + int(torch.randint(0, 1000, (), generator=rng))
        raw = [(size * float(p)) ** -beta for p in probability]
        assert importance_weights(probability, beta).tolist() == pytest.approx([x / max(raw) for x in raw])


@pytest.mark.golden
def test_the_ladder_spreads_epsilon_over_the_lanes():
    # ε = 0.4, spread 7, three lanes: 0.4, 0.4^4.5 = 0.016190, 0.4^8 = 0.000655
    assert ladder(0.4, 3, 7.0).tolist() == pytest.approx([0.4, 0.016191, 0.00065536], rel=1e-3)
    assert ladder(0.4, 3, 0.0).tolist() == pytest.approx([0.4] * 3)
    assert ladder(0.4, 1, 7.0).tolist() == pytest.approx([0.4])
    assert ladder(1.0, 2, 7.0).tolist() == [1.0, 1.0]
    assert ladder(0.0, 2, 7.0).tolist() == [0.0, 0.0]
