"""The msa3dcnn of densityjax.model in PyTorch: the reference of benchmarks/train_step.py.

Written as a PyTorch user would write it (`nn.Conv3d` with zero padding or a circular `F.pad`, fused
AdamW, `F.grid_sample` for the Cartesian view), with the same parameters, loss and update.
"""

from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from densityjax.model.msa3dcnn import MSA3DCNN
from densityjax.step.steps import Task

LAYOUTS = {
    "contiguous": torch.contiguous_format,
    "channels_last_3d": torch.channels_last_3d,
}


class Conv(nn.Module):
    """3D convolution, circular or zero padding, channels first."""

    def __init__(self, inputs: int, outputs: int, size: int, stride: int, dilation: int, mode: str):
        super().__init__()
        self.reach, self.mode = dilation * (size - 1) // 2, mode
        padding = self.reach if mode == "zero" else 0
        self.conv = nn.Conv3d(inputs, outputs, size, stride, padding, dilation)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.mode == "circular" and self.reach:
            x = F.pad(x, (self.reach,) * 6, mode="circular")
        return self.conv(x)


class MultiScale(nn.Module):
    """Parallel convolutions with several dilations."""

    def __init__(self, inputs: int, outputs: int, dilations: tuple, stride: int, mode: str):
        super().__init__()
        share, rest = divmod(outputs, len(dilations))
        self.branches = nn.ModuleDict(
            {
                f"dilation{d}": Conv(inputs, share + (i < rest), 3, stride, d, mode)
                for i, d in enumerate(dilations)
            }
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.cat([branch(x) for branch in self.branches.values()], dim=1)


class Attention(nn.Module):
    """Channel attention, then spatial attention."""

    def __init__(self, channels: int, kinds: tuple, mode: str):
        super().__init__()
        self.kinds = kinds
        hidden = max(channels // 4, 4)
        if "channel" in kinds:
            self.squeeze, self.excite = nn.Linear(channels, hidden), nn.Linear(hidden, channels)
        if "spatial" in kinds:
            self.spatial = Conv(2, 1, 3, 1, 1, mode)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if "channel" in self.kinds:
            gate = self.excite(F.silu(self.squeeze(x.mean((2, 3, 4))))).sigmoid()
            x = x * gate[:, :, None, None, None]
        if "spatial" in self.kinds:
            maps = torch.stack([x.mean(1), x.amax(1)], dim=1)
            x = x * self.spatial(maps).sigmoid()
        return x


class Block(nn.Module):
    """Residual block with activations before the convolutions."""

    def __init__(self, channels: int, dilations: tuple, attention: tuple, mode: str):
        super().__init__()
        self.multi = MultiScale(channels, channels, dilations, 1, mode)
        self.mix = Conv(channels, channels, 1, 1, 1, mode)
        self.attention = Attention(channels, attention, mode)
        self.gain = nn.Parameter(torch.empty(channels))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.attention(self.mix(F.silu(self.multi(F.silu(x)))))
        return x + self.gain[:, None, None, None] * y


class TorchMSA3DCNN(nn.Module):
    """Same layers as `densityjax.model.msa3dcnn.MSA3DCNN`; field channels first."""

    def __init__(self, model: MSA3DCNN, channels: int, features: int):
        super().__init__()
        mode = model.padding
        self.stem = MultiScale(channels, model.widths[0], model.dilations, model.stem_stride, mode)
        trunk, names, width = [], [], model.widths[0]
        for stage, (wider, blocks) in enumerate(zip(model.widths, model.blocks, strict=True)):
            if stage > 0:
                trunk.append(nn.Sequential(nn.SiLU(), Conv(width, wider, 3, 2, 1, mode)))
                names.append(f"down{stage}")
            width = wider
            for block in range(blocks):
                trunk.append(Block(width, model.dilations, model.attention, mode))
                names.append(f"stage{stage}_block{block}")
        self.names, self.trunk = names, nn.ModuleList(trunk)
        self.norm = nn.LayerNorm(2 * width, eps=1e-6)
        embedding = 2 * width + features
        self.hidden = nn.ModuleList(nn.Linear(embedding, model.head_width) for _ in model.targets)
        self.out = nn.ModuleList(nn.Linear(model.head_width, size) for _, size in model.targets)

    def forward(self, field: torch.Tensor, features: torch.Tensor) -> list[torch.Tensor]:
        x = self.stem(field)
        for layer in self.trunk:
            x = layer(x)
        x = F.silu(x).float()
        pooled = self.norm(torch.cat([x.mean((2, 3, 4)), x.amax((2, 3, 4))], dim=1))
        embedding = torch.cat([pooled, features], dim=1)
        return [
            out(F.silu(hidden(embedding)))
            for hidden, out in zip(self.hidden, self.out, strict=True)
        ]

    def pairs(self, params: Any, targets: tuple) -> list[tuple[nn.Parameter, np.ndarray]]:
        """Each parameter beside its leaf in a Flax tree, turned to PyTorch's layout.

        Raises:
            ValueError: the two models do not have the same number of parameters.
        """
        found: list[tuple[nn.Parameter, np.ndarray]] = []

        def conv(module: Conv, tree: Any) -> None:
            kernel = np.asarray(tree["kernel"]).transpose(4, 3, 0, 1, 2)
            found.extend([(module.conv.weight, kernel), (module.conv.bias, tree["bias"])])

        def dense(module: nn.Linear, tree: Any) -> None:
            kernel = np.asarray(tree["kernel"]).T
            found.extend([(module.weight, kernel), (module.bias, tree["bias"])])

        def multi(module: MultiScale, tree: Any) -> None:
            for name, branch in module.branches.items():
                conv(branch, tree[name])

        multi(self.stem, params["stem"])
        for name, layer in zip(self.names, self.trunk, strict=True):
            tree = params[name]
            if not isinstance(layer, Block):
                conv(layer[1], tree)
                continue
            multi(layer.multi, tree["MultiScaleConv3D_0"])
            conv(layer.mix, tree["mix"])
            found.append((layer.gain, tree["gain"]))
            if "channel" in layer.attention.kinds:
                dense(layer.attention.squeeze, tree["ChannelAttention_0"]["Dense_0"])
                dense(layer.attention.excite, tree["ChannelAttention_0"]["Dense_1"])
            if "spatial" in layer.attention.kinds:
                conv(layer.attention.spatial, tree["SpatialAttention_0"]["Conv3D_0"])
        norm = params["pooled_norm"]
        found.extend([(self.norm.weight, norm["scale"]), (self.norm.bias, norm["bias"])])
        for (name, _), hidden, out in zip(targets, self.hidden, self.out, strict=True):
            dense(hidden, params[f"{name}_hidden"])
            dense(out, params[f"{name}_out"])
        if sum(np.size(leaf) for _, leaf in found) != sum(p.numel() for p in self.parameters()):
            raise ValueError("the PyTorch model has other parameters than the Flax model")
        return found


def sample_cube(density: torch.Tensor, lattice: torch.Tensor, size: int, spacing: float):
    """Cubes of random origin and orientation: `densityjax.views.sample_cube`, channels first."""
    batch, _, grid = density.shape[:3]
    steps = (torch.arange(size, device=density.device) - (size - 1) / 2) * spacing
    cube = torch.stack(torch.meshgrid(steps, steps, steps, indexing="ij"), -1)
    rotation = torch.linalg.qr(torch.randn(batch, 3, 3, device=density.device))[0]
    to_grid = rotation @ torch.linalg.inv(lattice) * grid
    origin = torch.rand(batch, 1, 1, 1, 3, device=density.device) * grid
    position = torch.remainder(torch.einsum("xyzi,bij->bxyzj", cube, to_grid) + origin, grid)
    # One more voxel a side makes the periodic image the last sample: coordinates -1 to 1.
    periodic = F.pad(density, (0, 1) * 3, mode="circular")
    where = (position * (2 / grid) - 1).flip(-1)
    return F.grid_sample(periodic, where, mode="bilinear", align_corners=True)


def random_grid(density: torch.Tensor) -> torch.Tensor:
    """Random origin, axis relabelling and mirror images of each example, channels first."""
    examples = []
    for example in density:
        shifts = torch.randint(0, density.shape[-1], (3,)).tolist()
        axes = [1 + axis for axis in torch.randperm(3).tolist()]
        mirrored = [1 + axis for axis in range(3) if torch.rand(()) < 0.5]
        moved = example.roll(shifts, (1, 2, 3)).permute(0, *axes)
        examples.append(moved.flip(mirrored) if mirrored else moved)
    return torch.stack(examples)


class TorchStep:
    """One training step: view, forward, masked loss, backward, clipping, AdamW, moving average."""

    def __init__(
        self, task: Task, params: Any, statistics: Any, optimizer: Any, layout: str,
        device: str = "cpu", dtype: torch.dtype = torch.float32, compiled: bool = False,
    ):
        """Copies the parameters of a Flax state.

        Args:
            params: `state.params['model']`.
            statistics: `state.statistics`.
            optimizer: the section `optimizer` of the config.
            layout: a key of LAYOUTS.
        """
        self.task, self.device, self.dtype = task, device, dtype
        self.layout, self.clip_norm = LAYOUTS[layout], optimizer.clip_norm
        self.statistics = {
            name: torch.tensor(np.asarray(statistics[name]), device=device)
            for name in ("field_mean", "field_std", "feature_mean", "feature_std")
        }
        channels, features = (len(statistics[f"{k}_mean"]) for k in ("field", "feature"))
        self.model = TorchMSA3DCNN(task.model, channels, features)
        with torch.no_grad():
            for parameter, leaf in self.model.pairs(params, task.model.targets):
                parameter.copy_(torch.from_numpy(np.array(leaf)))
        self.model = self.model.to(device=device, memory_format=self.layout)
        self.parameters = list(self.model.parameters())
        self.average = [p.detach().clone() for p in self.parameters]
        groups = [
            {"params": [p for p in self.parameters if p.ndim > 1],
             "weight_decay": optimizer.weight_decay},
            {"params": [p for p in self.parameters if p.ndim <= 1], "weight_decay": 0.0},
        ]
        self.optimizer = torch.optim.AdamW(
            groups, lr=1e-4, betas=(optimizer.b1, optimizer.b2), fused=True
        )
        self.apply = torch.compile(self.model) if compiled else self.model

    def put(self, batch: dict[str, np.ndarray]) -> dict[str, torch.Tensor]:
        """A host batch [B, ...] as tensors, densities channels first."""
        tensors = {name: torch.from_numpy(np.array(leaf)) for name, leaf in batch.items()}
        tensors["density"] = tensors["density"].permute(0, 4, 1, 2, 3).contiguous()
        return {name: tensor.to(self.device) for name, tensor in tensors.items()}

    def field(self, density: torch.Tensor) -> torch.Tensor:
        """The transform log_and_linear, standardised: `densityjax.step.steps.apply_model`."""
        log = density[:, :1].clamp_min(self.task.log_clamp).log()
        field = torch.cat([log, density], dim=1)
        mean, std = (self.statistics[f"field_{k}"][:, None, None, None] for k in ("mean", "std"))
        return ((field - mean) / std).contiguous(memory_format=self.layout)

    def features(self, batch: dict[str, torch.Tensor]) -> torch.Tensor:
        """ln(Å^3 per electron), standardised."""
        volume = torch.linalg.det(batch["lattice"]).abs()
        features = (volume / batch["num_electrons"]).log()[:, None]
        return (features - self.statistics["feature_mean"]) / self.statistics["feature_std"]

    def loss(self, field: torch.Tensor, batch: dict[str, torch.Tensor]) -> torch.Tensor:
        """Mean over targets of the masked mean squared error."""
        with torch.autocast(self.device, self.dtype, enabled=self.dtype != torch.float32):
            outputs = self.apply(field, self.features(batch))
        outputs = torch.cat(outputs, dim=1).float()
        squares = batch["mask"] * (outputs - batch["labels"]).square()
        return (squares.sum(0) / batch["mask"].sum(0).clamp_min(1)).mean()

    def __call__(self, batch: dict[str, torch.Tensor]) -> torch.Tensor:
        """One update; returns the loss."""
        view = self.task.view
        with torch.no_grad():
            if view.kind == "cartesian":
                seen = sample_cube(batch["density"], batch["lattice"], view.size, view.spacing)
            else:
                seen = random_grid(batch["density"])
            field = self.field(seen)
        self.optimizer.zero_grad(set_to_none=True)
        loss = self.loss(field, batch)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.parameters, self.clip_norm)
        self.optimizer.step()
        torch._foreach_lerp_(self.average, [p.detach() for p in self.parameters], 0.01)
        return loss.detach()
