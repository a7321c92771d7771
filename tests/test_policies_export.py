"""ONNX graphs of whole decisions, run by onnxruntime, against the policies that they were made of."""

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from gymnasium.spaces import Box, Discrete, MultiBinary, MultiDiscrete

from drivetrain.agents.dqn_config import DQNConfig
from drivetrain.policies.build import build_policy
from drivetrain.policies.config import PolicyConfig
from drivetrain.policies.export import TOLERANCE, Decision, Port, largest_error, to_onnx, unflattened
from drivetrain.policies.qnet import build_q_policy

OBS = Box(-1.0, 1.0, (5,))
PICTURE = Box(0, 255, (40, 48, 6), np.uint8)
SIDES = Box(np.array([-1, 0, -3], np.float32), np.array([1, 2, 0.5], np.float32))
LARGEST = 1e-5

HEADS = {
    "squashed": (SIDES, {}),
    "gaussian": (SIDES, {"head": "gaussian"}),
    "beta": (SIDES, {"head": "beta"}),
    "levels": (SIDES, {"head": "levels"}),
    "open": (Box(-np.inf, np.inf, (2,)), {}),
    "double": (Box(-0.1, 0.3, (2,), np.float64), {}),
    "discrete": (Discrete(4, start=-2), {}),
    "one choice": (Discrete(1), {}),
    "multi": (MultiDiscrete([2, 5, 3], start=[0, 7, -1]), {}),
    "binary": (MultiBinary(4), {}),
}


def rng(seed=0):
    return torch.Generator().manual_seed(seed)


def make(observations, actions, **config):
    """A policy that has met observations and has opinions."""
    policy = build_policy(observations, actions, PolicyConfig(**config), rng())
    policy.obs_norm.update(torch.randn(200, observations.shape[-1], generator=rng(1)) * 30 + 10)
    with torch.no_grad():
        for parameter in policy.head.parameters():
            parameter += 0.5 * torch.randn(parameter.shape, generator=rng(2))
    return policy.eval()


def valued(actions, **settings):
    """A policy of action values with weights far from rest."""
    settings = {"buffer": "none", "hidden": (8,), "core_size": 8, "core_heads": 2, "core_context": 4} | settings
    policy = build_q_policy(OBS, actions, DQNConfig(**settings), rng())
    with torch.no_grad():
        for parameter in policy.parameters():
            parameter += 0.3 * torch.randn(parameter.shape, generator=rng(3))
    return policy.eval()


def run(graph, *inputs):
    session = onnxruntime.InferenceSession(graph, providers=["CPUExecutionProvider"])
    names = [port.name for port in session.get_inputs()]
    found = session.run(None, dict(zip(names, inputs, strict=True)))
    return dict(zip([port.name for port in session.get_outputs()], found, strict=True))


@pytest.mark.oracle
@pytest.mark.parametrize("name", HEADS)
def test_the_graph_of_every_head_decides_as_its_network(name):
    actions, config = HEADS[name]
    policy = make(OBS, actions, **config)
    decision = Decision(policy)
    graph = to_onnx(decision)
    assert largest_error(decision, graph) <= LARGEST
    obs = torch.randn(100, 5, generator=rng(3)) * 60  # far beyond what the normaliser met: clipped
    wanted = policy.act(obs).numpy()
    found = run(graph, obs.numpy())["action"]
    assert found.dtype == wanted.dtype
    np.testing.assert_allclose(found, wanted, atol=LARGEST, rtol=LARGEST)
    assert all(actions.contains(action) for action in found)


@pytest.mark.oracle
@pytest.mark.parametrize("layer_norm", [True, False])
@pytest.mark.parametrize("activation", ["tanh", "relu", "elu", "silu", "gelu"])
def test_the_graph_of_every_network_decides_as_the_network(activation, layer_norm):
    for encoder in ("mlp", "cnn", "resnet"):
        observations = OBS if encoder == "mlp" else PICTURE
        config = {"encoder": encoder, "activation": activation, "layer_norm": layer_norm, "shared_trunk": True}
        more = {} if encoder == "mlp" else {"channels": (4, 8), "hidden": (16,)}
        decision = Decision(make(observations, SIDES, **config, **more))
        assert largest_error(decision, to_onnx(decision)) <= LARGEST


@pytest.mark.oracle
def test_values_of_actions_decide_by_the_highest_and_are_handed_out():
    policy = valued(Discrete(4, start=3))
    decision = Decision(policy)
    graph = to_onnx(decision)
    assert largest_error(decision, graph) <= LARGEST
    obs = torch.randn(100, 5, generator=rng(3)) * 40
    found = run(graph, obs.numpy())
    with torch.no_grad():
        q = policy.q(policy.obs_norm(obs)).numpy()
    np.testing.assert_allclose(found["q"], q, rtol=1e-5, atol=1e-4)
    assert found["action"].tolist() == (q.argmax(1) + 3).tolist()


@pytest.mark.oracle
def test_pictures_are_remembered_from_step_to_step_and_forgotten_where_an_episode_begins():
    """Three lanes whose episodes begin at different steps, against stacks put together one by one."""
    frame_stack, lanes, steps = 3, 3, 9
    policy = make(PICTURE, Discrete(5), encoder="cnn", channels=(4, 8), hidden=(16,))
    graph = to_onnx(Decision(policy, frame_stack))
    pictures = torch.randint(0, 256, (steps, lanes, 40, 48, 2), generator=rng(4), dtype=torch.uint8)
    begins = torch.zeros(steps, lanes, dtype=torch.bool)
    begins[0] = begins[4, 1] = begins[5, 1] = begins[7, 2] = True
    memory = np.full((lanes, 40, 48, 4), 77, np.uint8)  # never looked at: every lane begins
    for step in range(steps):
        found = run(graph, pictures[step].numpy(), memory, begins[step].numpy())
        memory = found["next_memory"]
        for lane in range(lanes):
            first = max(t for t in range(step + 1) if begins[t, lane])
            rows = [max(first, step - back) for back in reversed(range(frame_stack))]
            stack = torch.cat([pictures[row, lane] for row in rows], -1)
            assert memory[lane].tolist() == stack[..., 2:].tolist()
            assert found["action"][lane] == policy.act(stack[None])[0]
            logits = policy.pi(stack[None]).logits[0].detach().numpy()
            np.testing.assert_allclose(found["logits"][lane], logits, atol=LARGEST)


@pytest.mark.oracle
def test_numbers_may_be_remembered_too():
    policy = make(Box(-1.0, 1.0, (6,)), SIDES)  # three times two numbers
    seen = torch.randn(4, 6, generator=rng(5)) * 30
    graph = to_onnx(Decision(policy, 3))
    assert largest_error(Decision(policy, 3), graph) <= LARGEST
    begins = np.array([False, True, False, True])
    found = run(graph, seen[:, 4:].numpy(), seen[:, :4].numpy(), begins)
    seen[begins] = seen[begins][:, 4:].repeat(1, 3)
    np.testing.assert_allclose(found["action"], policy.act(seen), atol=LARGEST)
    assert found["next_memory"].tolist() == seen[:, 2:].tolist()


UNFLATTENED = {
    # (what the policy acts in, what the environment takes, its action, theirs)
    "start": (Discrete(3), Discrete(3, start=4), [2, 0], [6, 4]),
    "rows": (MultiDiscrete([2, 2]), MultiDiscrete([[2], [2]], start=[[1], [5]]), [[1, 0]], [[[2], [5]]]),
    "switches": (MultiBinary(4), MultiBinary([2, 2]), [[1.0, 0.0, 1.0, 1.0]], [[[1, 0], [1, 1]]]),
    "table": (Box(-1.0, 1.0, (4,)), Box(-1.0, 1.0, (2, 2)), [[0.5, 1.0, 2.0, -1.0]], [[[0.5, 1.0], [1.0, -1.0]]]),
    "whole": (Box(0.0, 9.0, (2,)), Box(0, 9, (2,), np.uint8), [[3.4, 8.6]], [[3, 9]]),
    "double": (Box(-1.0, 0.1, (1,)), Box(-1.0, 0.1, (1,), np.float64), [[0.1], [-0.5]], [[0.1], [-0.5]]),
}


@pytest.mark.golden
@pytest.mark.parametrize("name", UNFLATTENED)
def test_flat_actions_become_those_of_the_space(name):
    acted, space, flat, wanted = UNFLATTENED[name]
    found = unflattened(torch.tensor(flat), space)
    assert found.tolist() == wanted
    assert all(space.contains(action) for action in found.numpy())
    policy = make(OBS, acted)
    decision = Decision(policy, 1, space)
    assert largest_error(decision, to_onnx(decision)) <= LARGEST
    obs = torch.randn(20, 5, generator=rng(3)) * 30
    found = run(to_onnx(decision), obs.numpy())["action"]
    assert all(space.contains(action) for action in found)


@pytest.mark.conformance
def test_the_graph_has_the_ports_it_says():
    decision = Decision(make(PICTURE, MultiDiscrete([2, 4]), encoder="cnn", channels=(4,), hidden=(8,)), 2)
    inputs, outputs = decision.ports()
    picture = ("batch", 40, 48, 3)
    assert inputs == (
        Port("observation", "uint8", picture),
        Port("memory", "uint8", picture),
        Port("start", "bool", ("batch",)),
    )
    assert outputs == (
        Port("action", "int64", ("batch", 2)),
        Port("logits", "float32", ("batch", 2, 4)),
        Port("next_memory", "uint8", picture),
    )
    graph = to_onnx(decision)
    model = onnx.load_from_string(graph)
    onnx.checker.check_model(model, full_check=True)
    for ports, told in ((model.graph.input, inputs), (model.graph.output, outputs)):
        assert [port.name for port in ports] == [port.name for port in told]
        for port, wanted in zip(ports, told, strict=True):
            tensor = port.type.tensor_type
            assert onnx.helper.tensor_dtype_to_np_dtype(tensor.elem_type) == np.dtype(wanted.dtype)
            assert tensor.shape.dim[0].dim_param == "batch"
            assert len(tensor.shape.dim) == len(wanted.shape)


@pytest.mark.parametrize("fault", ["weights", "normaliser", "start", "type"])
def test_a_graph_that_decides_otherwise_is_noticed(fault):
    good = make(OBS, SIDES) if fault != "start" else make(OBS, Discrete(4))
    bad = make(OBS, SIDES) if fault != "start" else make(OBS, Discrete(4, start=1))
    with torch.no_grad():
        if fault == "weights":
            bad.head.mean.bias[1] += 0.01
        elif fault == "normaliser":
            bad.obs_norm.mean[2] += 0.5
        elif fault == "type":
            bad.head.low = bad.head.low.double()
    assert largest_error(Decision(good), to_onnx(Decision(bad))) > TOLERANCE


def test_a_choice_that_turns_on_rounding_is_in_doubt_and_a_clear_one_is_not():
    cases = {
        "discrete": ([[0.0, -1.0, -5.0], [-1.0, -1.00001, -9.0]], [False, True]),
        "multi": ([[[0.0, -1.0], [-1.0, 0.0]], [[0.0, -1.0], [-0.7, -0.7]]], [False, True]),
        "binary": ([[3.0, -0.5], [0.00001, 2.0]], [False, True]),
        "one choice": ([[0.0], [0.0]], [False, False]),
    }
    for name, (scores, wanted) in cases.items():
        decision = Decision(make(OBS, HEADS[name][0]))
        assert decision.doubtful(torch.tensor(scores)).tolist() == wanted, name


def test_a_network_that_cannot_choose_can_be_exported_all_the_same():
    policy = make(OBS, Discrete(3))
    with torch.no_grad():
        for parameter in policy.head.parameters():
            parameter.zero_()
    assert largest_error(Decision(policy), to_onnx(Decision(policy))) <= LARGEST


def test_the_same_weights_give_the_same_bytes():
    assert to_onnx(Decision(make(OBS, SIDES))) == to_onnx(Decision(make(OBS, SIDES)))


@pytest.mark.parametrize(("observations", "frame_stack"), [(OBS, 2), (PICTURE, 4)])
def test_observations_that_are_no_stack_are_refused(observations, frame_stack):
    policy = make(observations, SIDES, **({} if observations is OBS else {"encoder": "cnn", "channels": (4,)}))
    with pytest.raises(ValueError, match=f"are no {frame_stack} in one"):
        Decision(policy, frame_stack)


@pytest.mark.parametrize("core", ["gru", "lstm", "transformer"])
@pytest.mark.parametrize(
    ("observations", "more", "stack"), [(OBS, {}, 1), (PICTURE, {"encoder": "cnn", "hidden": (16,)}, 2)]
)
def test_memory_goes_into_a_graph_and_comes_out_as_in_the_network(core, observations, more, stack):
    sizes = {"core_size": 8, "core_layers": 2, "core_heads": 2, "core_context": 4}
    policy = make(observations, Discrete(4), core=core, **sizes, **more)
    with torch.no_grad():  # blocks begin as the identity
        for parameter in policy.core.parameters():
            parameter += 0.3 * torch.randn(parameter.shape, generator=rng(3))
    decision = Decision(policy, stack)
    graph = to_onnx(decision)
    names = [port.name for port in decision.ports()[0]]
    assert names == ["observation", *["memory"] * (stack > 1), "start", "core_memory"]
    assert [port.name for port in decision.ports()[1]][-1] == "next_core_memory"
    assert largest_error(decision, graph) <= LARGEST
    if stack > 1:
        return
    # an episode of seven steps, and another one behind it, of which memory goes round outside the graph
    seen = torch.randn(9, 1, 5, generator=rng(4)) * 30 + 10
    first = torch.zeros(9, 1, dtype=torch.bool)
    first[[0, 7]] = True
    with torch.no_grad():
        features, _ = policy.over_time(policy.obs_norm(seen[:, 0]), policy.core.start(1, "cpu").kept, first)
        wanted = policy.head(features).logits
    session = onnxruntime.InferenceSession(graph, providers=["CPUExecutionProvider"])
    kept, found = np.full((1, policy.core.memory_size), 7, np.float32), []
    if core == "transformer":
        kept[:, -1] = 2
    for obs, begins in zip(seen.numpy(), first.numpy(), strict=True):
        given = {"observation": obs, "start": begins, "core_memory": kept}
        logits, kept = session.run(["logits", "next_core_memory"], given)
        found.append(torch.as_tensor(logits[0]))
    torch.testing.assert_close(torch.stack(found), wanted, rtol=0, atol=LARGEST)


@pytest.mark.parametrize("core", ["gru", "lstm", "transformer"])
def test_the_memory_of_action_values_goes_into_a_graph_and_comes_out(core):
    decision = Decision(valued(Discrete(4, start=2), core=core, dueling=True))
    assert [port.name for port in decision.ports()[0]] == ["observation", "start", "core_memory"]
    assert [port.name for port in decision.ports()[1]] == ["action", "q", "next_core_memory"]
    assert largest_error(decision, to_onnx(decision)) <= LARGEST
