"""SmolLM2 in transformers, and a plain loop for samplers that have no engine here."""
import torch

PROMPTS = [
    "The history of the railway begins with",
    "My grandmother used to tell us that",
    "In the deep sea there are animals that",
    "The city council decided last week to",
]


class Model:
    """Opened when the first text is written with it."""

    def __init__(self, path, tokens):
        self.path, self.tokens, self.opened = path, tokens, None

    def open(self):
        if self.opened is None:
            from transformers import AutoModelForCausalLM, AutoTokenizer
            place = dict(gguf_file=self.path.name)
            tokenizer = AutoTokenizer.from_pretrained(self.path.parent, **place)
            tokenizer.pad_token = tokenizer.eos_token
            model = AutoModelForCausalLM.from_pretrained(self.path.parent, dtype=torch.float32, **place).eval()
            self.opened = model, tokenizer, tokenizer(PROMPTS, return_tensors="pt", padding=True, padding_side="left")
        return self.opened

    def save(self, folder):
        """The weights as transformers writes them, dequantised, for engines that read no GGUF."""
        if (folder / "done").exists():
            return
        model, tokenizer, _ = self.open()
        settings = model.config.to_dict()
        settings.pop("quantization_config", None)
        plain = type(model)(type(model.config)(**settings)).float()
        plain.load_state_dict(model.state_dict())
        plain.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
        (folder / "done").touch()

    def generate(self, config):
        """transformers' own loop and sampler, everything kept (top_k 0), no end of text."""
        model, tokenizer, prompts = self.open()
        torch.manual_seed(1)
        ids = model.generate(
            **prompts, do_sample=True, top_k=0, max_new_tokens=self.tokens, watermarking_config=config,
            suppress_tokens=[tokenizer.eos_token_id])
        return ids[:, prompts.input_ids.shape[1]:].tolist()

    def loop(self, choose):
        """A plain loop at temperature 1: `choose(logits, written)` gives a token a row."""
        model, tokenizer, prompts = self.open()
        torch.manual_seed(1)
        written, cache = [[] for _ in PROMPTS], None
        ids, mask = prompts.input_ids, prompts.attention_mask
        positions = (mask.cumsum(-1) - 1).clamp_min(0)
        for _ in range(self.tokens):
            with torch.no_grad():
                out = model(input_ids=ids, attention_mask=mask, position_ids=positions, past_key_values=cache, use_cache=True)
            cache, logits = out.past_key_values, out.logits[:, -1].float()
            logits[:, tokenizer.eos_token_id] = -torch.inf
            ids = choose(logits, written).view(-1, 1)
            for row, token in zip(written, ids[:, 0].tolist()):
                row.append(token)
            mask = torch.cat([mask, mask.new_ones(len(written), 1)], -1)
            positions = positions[:, -1:] + 1
        return written


def ordinary(logits):
    return torch.multinomial(torch.softmax(logits, -1), 1)[:, 0]


def once(choose, width=4):
    """Each window is marked once a sequence; else ordinary sampling, as where there is no whole window."""
    met = [set() for _ in PROMPTS]

    def step(logits, written):
        windows = [tuple(row[-width:]) for row in written]
        usable = [len(w) == width and w not in seen for w, seen in zip(windows, met)]
        for window, seen in zip(windows, met):
            seen.add(window)
        plain = ordinary(logits)
        if not any(usable):
            return plain
        padded = torch.tensor([w if len(w) == width else (0,) * width for w in windows])
        return torch.where(torch.tensor(usable), choose(logits, padded), plain)
    return step
