"""What transformers' modules get as inputs, seen by forward hooks."""
from peers import torch


def with_weight(name, module):
    return name if hasattr(module, "weight") and "embed" not in name else None


def hook_statistics(model, sequences, name_of=with_weight):
    """{name: {"mean_abs", "rms", "max_abs"}}: mean |x|, sqrt(mean x^2) and max |x| of modules' first inputs over the sequences of token ids, in
    float64. @param name_of name_of(name in memory, module) is the name in the result; None: the module is not watched"""
    sums, hooks = {}, []

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
        if shown := name_of(name, module):
            hooks.append(module.register_forward_pre_hook(watch(shown)))
    with torch.no_grad():
        for sequence in sequences:
            model(input_ids=torch.tensor(sequence)[None])
    for hook in hooks:
        hook.remove()
    return {name: {"mean_abs": (s / n).numpy(), "rms": (q / n).sqrt().numpy(), "max_abs": m.numpy()} for name, (n, s, q, m) in sums.items()}
