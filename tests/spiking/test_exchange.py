"""Networks go out as NIR and come back with the same spikes; what NIR cannot say is refused."""

from __future__ import annotations

import math
import sys

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from calcarine import simulate
from calcarine.errors import FileFormatError, InputError, MissingDependencyError, ShapeError
from calcarine.spiking import (
    IAF,
    LIF,
    AdaptiveLIF,
    LeakyIntegrator,
    LeakyIntegratorBox,
    LIFBox,
    Recurrent,
    Scale,
    Threshold,
    export_nir,
    import_nir,
)
from calcarine.stage import Pathway

nir = pytest.importorskip("nir")
h5py = pytest.importorskip("h5py")


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def movie(*shape: int, seed: int = 0, gain: float = 3.0) -> Tensor:
    return gain * torch.rand(shape, generator=seeded(seed))


def linear(inputs: int, outputs: int, *, seed: int = 0, bias: bool = True) -> nn.Linear:
    layer = nn.Linear(inputs, outputs, bias=bias)
    with torch.no_grad():
        for p in layer.parameters():
            p.copy_(torch.randn(p.shape, generator=seeded(seed)) * 2 / inputs**0.5)
    return layer


def outputs(model: nn.Module, frames: Tensor) -> Tensor:
    return simulate.run(model, frames, engine="plain")[0].detach()


@pytest.mark.parametrize("dt_ms", [1.0, 0.5])
@pytest.mark.parametrize("reset", ["value", "subtract"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_network_comes_back_with_the_same_spikes(dt_ms, reset, dtype, tmp_path):
    kept = {"reset": reset, "dt_ms": dt_ms}
    after_spike = {"v_reset": -0.25} if reset == "value" else {}
    model = Pathway(
        into=linear(6, 9, seed=1),
        box=LIFBox(tau_mem_ms=4.1, v_th=0.7, v_leak=0.05, **after_spike, **kept),
        on=linear(9, 7, seed=2, bias=False),
        lif=LIF(tau_mem_ms=7.3, tau_syn_ms=3.3, v_th=[0.5 + 0.1 * k for k in range(7)], **kept),
        counter=IAF(tau_mem_ms=2.3, **kept),
        out=linear(7, 3, seed=3),
        readout=LeakyIntegrator(tau_mem_ms=13.0, tau_syn_ms=6.1, dt_ms=dt_ms),
        smooth=LeakyIntegratorBox(tau_mem_ms=5.7, v_leak=-0.1, dt_ms=dt_ms),
    ).to(dtype)
    path = tmp_path / "net.nir"
    graph = export_nir(model, path)
    frames = movie(120, 2, 6, gain=6.0).to(dtype)
    spikes = {name: simulate.Recording() for name in ("box", "lif", "counter")}
    before = simulate.run(model, frames, record=spikes)[0].detach()
    for source in (graph, path):
        back = import_nir(source, dtype=dtype)
        again = {name: simulate.Recording() for name in spikes}
        after = simulate.run(back, frames, record=again)[0].detach()
        assert back.order == model.order
        assert back.lif.dt_ms == dt_ms
        assert back.lif.reset == reset
        assert torch.equal(before, after)
        for name in spikes:
            assert torch.equal(spikes[name].values, again[name].values)
            assert 0.01 < spikes[name].values.mean() < 0.99


def test_the_way_out_says_what_nir_means():
    """Seconds, a shape for every neuron, and an input current that our step raises by the input."""
    model = Pathway(
        a=linear(2, 3),
        lif=LIF(tau_mem_ms=20.0, tau_syn_ms=(4.0, 5.0, 6.0), v_th=1.5, dt_ms=0.5),
    )
    graph = export_nir(model)
    node = graph.nodes["lif"]
    assert isinstance(node, nir.CubaLIF)
    assert np.allclose(node.tau_mem, [0.02] * 3)
    assert np.allclose(node.tau_syn, [0.004, 0.005, 0.006])
    assert np.allclose(node.w_in * 0.0005 / node.tau_syn, 1.0)
    assert np.array_equal(node.r, np.ones(3))
    assert np.array_equal(node.v_threshold, np.full(3, 1.5))
    assert node.metadata["reset"] == "value"
    assert node.metadata["dt"] == graph.metadata["dt"] == 0.0005
    assert graph.edges == [("input", "a"), ("a", "lif"), ("lif", "output")]
    assert isinstance(graph.nodes["a"], nir.Affine)


def test_the_box_neuron_converges_to_the_equation_of_its_node():
    """NIR: tau v' = (v_leak - v) + R I, so the interval is tau ln((R I) / (R I - v_th))."""
    node = nir.LIF(
        tau=np.array([0.01]), r=np.array([2.0]), v_leak=np.zeros(1), v_threshold=np.ones(1)
    )
    graph = nir.NIRGraph.from_list(node)
    back = import_nir(graph, dt_ms=0.01, dtype=torch.float64)
    spikes = outputs(back, torch.full((20_000, 1, 1), 0.75, dtype=torch.float64))
    interval_ms = 10 * math.log(1.5 / 0.5)
    assert isinstance(back.lif_gain, Scale)
    assert spikes.sum().item() == math.floor(200 / interval_ms)
    assert spikes.flatten().nonzero()[0].item() * 0.01 == pytest.approx(interval_ms, rel=2e-3)


def test_current_based_neurons_converge_to_the_equation_of_their_node():
    """S = 1 throughout: I = w_in (1 - e^(-t / ts)), and v follows in closed form."""
    tau_mem, tau_syn, w_in, r = 0.02, 0.005, 3.0, 0.5
    node = nir.CubaLI(
        tau_mem=np.array([tau_mem]), tau_syn=np.array([tau_syn]), r=np.array([r]),
        v_leak=np.zeros(1), w_in=np.array([w_in]),
    )  # fmt: skip
    t = 0.03
    a, b = math.exp(-t / tau_mem), math.exp(-t / tau_syn)
    exact = r * w_in * (1 - a - tau_syn / (tau_syn - tau_mem) * (b - a))
    errors = []
    for dt_ms in (0.1, 0.01):
        back = import_nir(nir.NIRGraph.from_list(node), dt_ms=dt_ms, dtype=torch.float64)
        v = outputs(back, torch.ones(round(30 / dt_ms), 1, 1, dtype=torch.float64))[-1].item()
        errors.append(abs(v - exact))
    assert errors[0] < 0.01
    assert errors[1] < 0.15 * errors[0]


@pytest.mark.parametrize("self_connection", [False, True])
@pytest.mark.parametrize("bias", [False, True])
def test_recurrent_connections_are_loops(self_connection, bias, tmp_path):
    model = Pathway(
        a=linear(4, 8),
        ring=Recurrent(LIF(), linear(8, 8, bias=bias), self_connection=self_connection),
        b=linear(8, 2),
    )
    graph = export_nir(model, tmp_path / "ring.nir")
    assert {("ring", "ring.recurrent"), ("ring.recurrent", "ring")} < set(graph.edges)
    back = import_nir(tmp_path / "ring.nir")
    frames = movie(80, 2, 4)
    assert torch.equal(outputs(model, frames), outputs(back, frames))
    assert back.ring.self_connection == self_connection
    feedforward = Pathway(a=model.a, ring=model.ring.neuron, b=model.b)
    assert not torch.equal(outputs(model, frames), outputs(feedforward, frames))


def test_a_gain_acts_on_what_comes_back_as_well():
    """Twice R is twice the input and twice the loop."""
    one = export_nir(Recurrent(LIFBox(tau_mem_ms=5.0), linear(4, 4)), input_shape=(4,))
    two = export_nir(Recurrent(LIFBox(tau_mem_ms=5.0), linear(4, 4)), input_shape=(4,))
    two.nodes["recurrent"].r = two.nodes["recurrent"].r * 2
    doubled = linear(4, 4)
    with torch.no_grad():
        for p in doubled.parameters():
            p.mul_(2)
    expected = Recurrent(LIFBox(tau_mem_ms=5.0), doubled)
    frames = movie(60, 2, 4)
    spikes = outputs(import_nir(two), frames)
    assert torch.equal(spikes, outputs(expected, 2 * frames))
    assert not torch.equal(spikes, outputs(import_nir(one), 2 * frames))


def test_images_convolutions_and_constants_per_channel(tmp_path):
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(2, 4, 3, stride=(2, 1), padding=(1, 1), bias=False),
        LIFBox(tau_mem_ms=(3.0, 5.0, 7.0, 9.0), v_th=0.1),
        nn.Conv2d(4, 3, (3, 5), padding="same"),
        Scale(factor=[4.0, 5.0, 6.0]),
        Threshold(threshold=0.5, alpha=20.0),
        nn.Flatten(),
        nn.Linear(3 * 6 * 9, 5),
        LeakyIntegratorBox(),
    )
    frames = movie(30, 2, 2, 11, 9, gain=2.0)
    export_nir(model, tmp_path / "image.nir", input_shape=(2, 11, 9))
    back = import_nir(tmp_path / "image.nir")
    pathway = Pathway(**{f"p{name}": part for name, part in model.named_children()})
    assert torch.equal(outputs(pathway, frames), outputs(back, frames))
    assert getattr(back, "1").tau_mem_ms == [3.0, 5.0, 7.0, 9.0]
    assert getattr(back, "4").alpha == 20.0


def test_pathways_within_pathways_keep_their_names():
    inner = Pathway(cells=linear(3, 3), spikes=LIFBox())
    graph = export_nir(Pathway(v1=inner, input=linear(3, 2)))
    assert list(graph.nodes) == ["input", "v1.cells", "v1.spikes", "input_2", "output"]
    assert import_nir(graph).order == ("v1_cells", "v1_spikes", "input_2")


def test_nodes_may_have_any_name():
    """Names that a module or a pathway has for itself get an underscore."""
    names = ["forward", "order", "self", "_a", "a.b", "a_b", ""]
    edges = list(zip(["input", *names], [*names, "output"], strict=True))
    back = import_nir(graph_of({name: nir.Scale(np.ones(2) * 2) for name in names}, edges))
    assert back.order == ("forward_", "order_", "self_", "node_a", "a_b", "a_b_2", "node")
    assert back(torch.ones(1, 2)).tolist() == [[128.0, 128.0]]


def test_learned_constants_travel_as_numbers():
    neuron = LIFBox(tau_mem_ms=12.0, learnable=True).double()
    with torch.no_grad():
        neuron.tau_mem.raw.add_(0.3)
    back = import_nir(export_nir(neuron, input_shape=(2,)))
    learned = neuron.tau_mem.current().item()
    assert learned != pytest.approx(12.0, rel=0.01)
    assert back.lifbox.tau_mem_ms == pytest.approx(learned, rel=1e-12)
    assert not list(back.parameters())


def test_another_step_runs_the_same_equations():
    """A network made for 1 ms runs at 0.1 ms; rates change by the first order of the step."""
    model = LIF(tau_mem_ms=10.0, tau_syn_ms=5.0, dt_ms=1.0)
    graph = export_nir(model, input_shape=(1,))
    fine = import_nir(graph, dt_ms=0.1)
    assert isinstance(fine.lif_gain, Scale)
    coarse_rate = outputs(model, torch.full((1000, 1, 1), 0.5)).mean().item()
    fine_rate = outputs(fine, torch.full((10_000, 1, 1), 0.5)).mean().item() * 10
    assert fine_rate == pytest.approx(coarse_rate, rel=0.2)
    assert coarse_rate > 0.05


class Rectify(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.relu()


@pytest.mark.parametrize(
    ("model", "shape", "match"),
    [
        (LIFBox(refractory_ms=2.0), (3,), "refractory_ms=2.0 of 'lifbox'"),
        (Pathway(v1=AdaptiveLIF()), (3,), "cannot express 'v1', a AdaptiveLIF"),
        (nn.Sequential(Rectify()), (3,), "cannot express '0', a Rectify"),
        (Recurrent(AdaptiveLIF(), torch.eye(3)), (3,), "cannot express 'recurrent'"),
        (Recurrent(LIFBox(), nn.ReLU(), self_connection=True), (3,), "LIFBox with ReLU"),
        (nn.Linear(3, 2), (4, 3), r"Put nn.Flatten\(\) in front"),
        (nn.Conv2d(2, 2, 3, padding_mode="circular", padding=1), (2, 5, 5), "padding_mode"),
        (nn.Conv2d(2, 2, 3, groups=2), (2, 5, 5), "groups=2"),
        (nn.Conv2d(2, 2, (3, 5)), (2, 7, 7), r"kernel_size=\(3, 5\) of 'conv2d'"),
        (LIFBox(), None, "Pass input_shape"),
        (nn.Sequential(), (3,), "at least one stage"),
        (Pathway(a=LIFBox(), b=LIFBox(dt_ms=0.5)), (3,), "neurons of one step"),
    ],
)
def test_what_nir_cannot_say_is_refused_by_name(model, shape, match):
    with pytest.raises(InputError, match=match):
        export_nir(model, input_shape=shape)


def test_frames_that_do_not_fit_are_named_and_asking_changes_nothing():
    with pytest.raises(ShapeError, match=r"'b' cannot take frames of shape \(4,\)"):
        export_nir(Pathway(a=linear(3, 4), b=linear(5, 2)))
    norm = nn.BatchNorm1d(3)
    before = norm.num_batches_tracked.clone()
    with pytest.raises(InputError, match="a BatchNorm1d"):
        export_nir(norm, input_shape=(3,))
    assert torch.equal(norm.num_batches_tracked, before)
    assert norm.training


def lif_node(n: int = 2, **changed: object) -> object:
    ones = np.ones(n)
    return nir.LIF(
        **{"tau": ones * 0.01, "r": ones, "v_leak": 0 * ones, "v_threshold": ones, **changed}
    )


def graph_of(nodes: dict, edges: list) -> object:
    shape = {"input_type": {"input": np.array([2])}}
    ends = {"input": nir.Input(**shape), "output": nir.Output({"output": np.array([2])})}
    return nir.NIRGraph({**ends, **nodes}, edges)


SQUARE = np.eye(2)


@pytest.mark.parametrize(
    ("graph", "match"),
    [
        (
            lambda: graph_of(
                {"a": lif_node(), "b": lif_node()},
                [("input", "a"), ("input", "b"), ("a", "output"), ("b", "output")],
            ),
            "without branches, but 'input' leads to 'a', 'b'",
        ),
        (
            lambda: graph_of(
                {"a": lif_node(), "b": nir.Linear(SQUARE), "c": lif_node()},
                [("input", "a"), ("a", "b"), ("b", "c"), ("c", "a"), ("c", "output")],
            ),
            "'c' leads to 'a', 'output'",
        ),
        (
            lambda: graph_of(
                {"a": nir.Scale(np.ones(2)), "w": nir.Linear(SQUARE)},
                [("input", "a"), ("a", "w"), ("w", "a"), ("a", "output")],
            ),
            "loops around neurons, not around a Scale",
        ),
        (
            lambda: graph_of(
                {"a": lif_node(), "w": nir.Scale(np.ones(2))},
                [("input", "a"), ("a", "w"), ("w", "a"), ("a", "output")],
            ),
            "neurons with an Affine or Linear node",
        ),
        (
            lambda: graph_of({"d": nir.Delay(np.ones(2))}, [("input", "d"), ("d", "output")]),
            "no stage for the node 'd' of type Delay",
        ),
        (lambda: nir.NIRGraph.from_list(lif_node(tau=np.full(2, np.nan))), "node 'lif' .* finite"),
        (lambda: nir.NIRGraph.from_list(lif_node(tau=np.full(2, 1e-4))), "tau_mem_ms expected"),
        (lambda: nir.NIRGraph.from_list(nir.IF(np.zeros(2), np.ones(2))), "positive r"),
        (lambda: graph_of({}, [("input", "output")]), "nodes between input and output"),
    ],
)  # fmt: skip
def test_graphs_without_a_counterpart_are_refused_by_name(graph, match):
    with pytest.raises(InputError, match=match):
        import_nir(graph(), dt_ms=1.0)


def test_the_step_has_to_be_known():
    with pytest.raises(InputError, match=r"does not name its step.*Pass dt_ms"):
        import_nir(nir.NIRGraph.from_list(lif_node()))
    two = [lif_node(), lif_node()]
    two[0].metadata, two[1].metadata = {"dt": 0.001}, {"dt": 0.002}
    with pytest.raises(InputError, match="different steps"):
        import_nir(nir.NIRGraph.from_list(*two))
    two[1].metadata = {"dt": "soon"}
    with pytest.raises(InputError, match="finite numbers"):
        import_nir(nir.NIRGraph.from_list(*two))
    with pytest.raises(InputError, match=r"expected a nir.NIRGraph or a path, got dict"):
        import_nir({})


def test_fast_counters_become_a_gain():
    """IF adds r I dt per step, however large r is."""
    node = nir.IF(r=np.array([1000.0, 5000.0, 100.0]), v_threshold=np.ones(3))
    back = import_nir(nir.NIRGraph.from_list(node), dt_ms=1.0)
    spikes = outputs(back, torch.full((100, 1, 3), 0.15))
    # 0.15, 0.75 and 0.015 per step, above 1 after 7, 2 and 67 steps.
    assert spikes.sum(0).tolist() == [[14, 50, 1]]


def good_file(tmp_path) -> bytes:
    path = tmp_path / "good.nir"
    export_nir(Pathway(a=linear(3, 2), b=LIF()), path)
    return path.read_bytes()


@pytest.mark.parametrize("kept", [0, 7, 100, 1500, -40])
def test_truncated_files_are_named(kept, tmp_path):
    path = tmp_path / "bad.nir"
    path.write_bytes(good_file(tmp_path)[:kept])
    with pytest.raises(FileFormatError, match=r"bad\.nir holds no network"):
        import_nir(path)


def test_files_of_another_kind_are_named(tmp_path):
    with pytest.raises(FileFormatError, match="There is no file"):
        import_nir(tmp_path / "absent.nir")
    text = tmp_path / "text.nir"
    text.write_text("import os")
    with pytest.raises(FileFormatError, match="holds no network"):
        import_nir(text)
    empty = tmp_path / "empty.nir"
    h5py.File(empty, "w").close()
    with pytest.raises(FileFormatError, match="holds no network"):
        import_nir(empty)
    single = tmp_path / "single.nir"
    nir.write(single, lif_node())
    with pytest.raises(FileFormatError, match="holds no network"):
        import_nir(single)


@pytest.mark.parametrize(
    "damage",
    [
        lambda f: f["node/nodes/b"].__delitem__("tau_mem"),
        lambda f: f["node/nodes/b/type"].__setitem__((), "Backdoor"),
        lambda f: f["node"].__delitem__("edges"),
        lambda f: f["node/nodes/a"].__delitem__("bias"),
        lambda f: f["node/nodes"].__delitem__("b"),
    ],
)
def test_files_with_missing_or_strange_parts_are_named(damage, tmp_path):
    good_file(tmp_path)
    path = tmp_path / "good.nir"
    with h5py.File(path, "r+") as file:
        damage(file)
    with pytest.raises(FileFormatError, match="holds no network"):
        import_nir(path)


def test_files_that_announce_more_than_they_hold_are_refused(tmp_path):
    good_file(tmp_path)
    path = tmp_path / "good.nir"
    with h5py.File(path, "r+") as file:
        del file["node/nodes/a/weight"]
        file["node/nodes/a"].create_dataset("weight", (2**40,), "f4", chunks=(1024,))
    with pytest.raises(FileFormatError, match="weight announces 4398046511104 bytes"):
        import_nir(path)


def test_without_the_package_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "nir", None)
    with pytest.raises(MissingDependencyError, match=r"calcarine\[events\]"):
        export_nir(linear(2, 2))
    with pytest.raises(MissingDependencyError, match="Exchanging networks as NIR"):
        import_nir("net.nir")
