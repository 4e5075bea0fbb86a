"""What transformers' modules get as inputs, seen by forward hooks."""
from peers import torch


def hook_statistics(model, blocks):
    """mean |x|, sqrt(mean x^2) and max |x| of every weighted module's input over the blocks, in float64."""
    sums = {}

    def watch(name):
        def hook(module, arguments):
            x = arguments[0].detach().double().reshape(-1, arguments[0].shape[-1])
            total = sums.setdefault(name, [0, 0, 0, torch.zeros(x.shape[-1], dtype=torch.float64)])
            total[0] += x.shape[0]
            total[1] = total[1] + x.abs().sum(0)
            total[2] = total[2] + (x * x).sum(0)
            total[3] = torch.maximum(total[3], x.abs().amax(0))
        return hook

    for name, module in model.named_modules():
        if hasattr(module, "weight") and "embed" not in name:
            module.register_forward_pre_hook(watch(name))
    with torch.no_grad():
        for block in blocks:
            model(torch.tensor(block)[None])
    return {name: {"mean_abs": (s / n).numpy(), "rms": (q / n).sqrt().numpy(), "max_abs": m.numpy()} for name, (n, s, q, m) in sums.items()}
