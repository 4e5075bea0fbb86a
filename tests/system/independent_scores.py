"""Scores of a checkpoint on evaluation suites, by transformers alone: what `aimerge evaluate` and `aimerge sweep` are held against.

One padded forward pass per batch of (prompt, continuation) pairs, float32; a choice is scored as a pair of its own.
"""
import json
import pathlib

from peers import torch, transformers


def read_items(path):
    return [json.loads(line) for line in pathlib.Path(path).read_text(encoding="utf-8").splitlines()]


class Scorer:
    def __init__(self, folder):
        self.tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
        self.model = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()

    def pairs(self, pairs, batch=32):
        """For each (prompt, continuation): its log-likelihood, and whether every token of it is the most likely one."""
        found = [None] * len(pairs)
        encoded = [(self.tokenizer(prompt).input_ids, self.tokenizer(prompt + text).input_ids) for prompt, text in pairs]
        order = sorted(range(len(pairs)), key=lambda i: len(encoded[i][1]))
        for start in range(0, len(order), batch):
            rows = order[start:start + batch]
            longest = max(len(encoded[i][1]) for i in rows)
            ids = torch.tensor([encoded[i][1] + [0] * (longest - len(encoded[i][1])) for i in rows])
            mask = torch.tensor([[1] * len(encoded[i][1]) + [0] * (longest - len(encoded[i][1])) for i in rows])
            with torch.no_grad():
                hidden = self.model.model(ids, attention_mask=mask).last_hidden_state
            for row, i in enumerate(rows):
                first, last = len(encoded[i][0]), len(encoded[i][1])
                wanted = ids[row, first:last]
                with torch.no_grad():  # logits of a whole batch would take most of the time
                    predictions = self.model.lm_head(hidden[row, first - 1:last - 1])
                likelihood = predictions.log_softmax(-1).gather(1, wanted[:, None]).double().sum().item()
                found[i] = likelihood, bool((predictions.argmax(-1) == wanted).all())
        return found

    def exact_match(self, items):
        hits = [greedy for _, greedy in self.pairs([(item["prompt"], item["target"]) for item in items])]
        return sum(hits) / len(hits)

    def multiple_choice(self, items):
        pairs = [(item["prompt"], choice) for item in items for choice in item["choices"]]
        values = iter(self.pairs(pairs))
        right = 0
        for item in items:
            likelihoods = [next(values)[0] for _ in item["choices"]]
            right += likelihoods.index(max(likelihoods)) == item["answer"]
        return right / len(items)

    def perplexity(self, text, block=256):
        """Over consecutive blocks, each on its own."""
        ids = torch.tensor(self.tokenizer(text).input_ids)
        blocks = ids[:len(ids) // block * block].view(-1, block)
        with torch.no_grad():
            losses = [self.model(row[None], labels=row[None]).loss.double() for row in blocks]
        return torch.stack(losses).mean().exp().item()


def score(folder, suites, text):
    """{task: fraction of items right}, and the perplexity of the text as `ppl`. `suites` is a folder of JSONL files."""
    scorer, scores = Scorer(folder), {}
    for path in sorted(pathlib.Path(suites).glob("*.jsonl")):
        items = read_items(path)
        judge = scorer.multiple_choice if "choices" in items[0] else scorer.exact_match
        scores[items[0]["task"]] = judge(items)
    scores["ppl"] = scorer.perplexity(pathlib.Path(text).read_text(encoding="utf-8"))
    return scores
