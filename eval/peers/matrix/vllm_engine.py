"""Our processor in a real vLLM: writes {"answers": [[token id]]} of one profile. Run by `ours.py` in vLLM's own environment."""
import argparse
import json
import os
from pathlib import Path

os.environ |= {"VLLM_ENABLE_V1_MULTIPROCESSING": "0", "VLLM_CPU_KVCACHE_SPACE": "1", "VLLM_NO_USAGE_STATS": "1"}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for name in ("model", "prompts", "out"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    parser.add_argument("--config", type=Path, help="of our processor")
    parser.add_argument("--native", help="the engine's own configuration of a mark, as JSON")
    parser.add_argument("--tokens", type=int, required=True)
    arguments = parser.parse_args()
    from vllm import LLM, SamplingParams
    mark = {}
    if arguments.config:
        os.environ["WATERMARK_CONFIG"] = str(arguments.config)
        mark = {"logits_processors": ["watermark.vllm:Processor"]}
    if arguments.native:
        mark = {"watermark_config": json.loads(Path(arguments.native).read_text())}
    engine = LLM(model=str(arguments.model), dtype="float32", enforce_eager=True, max_model_len=1024, max_num_seqs=4, **mark)
    prompts = json.loads(arguments.prompts.read_text())
    params = [SamplingParams(temperature=1.0, max_tokens=arguments.tokens, ignore_eos=True, seed=seed)
              for seed in range(len(prompts))]
    answers = [list(out.outputs[0].token_ids) for out in engine.generate(prompts, params, use_tqdm=False)]
    arguments.out.write_text(json.dumps({"answers": answers}))


if __name__ == "__main__":
    main()
