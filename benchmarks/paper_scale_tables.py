"""The figures that paper_scale.py computes as tables, each figure with the step that leads to it."""

GB = 1e9


def table(head: str, rows: list[str]) -> str:
    """A markdown table; cells are separated by " | "."""
    columns = head.count(" | ") + 1
    return "\n".join(f"| {line} |" for line in (head, " | ".join(["---"] * columns), *rows))


def tables(result: dict) -> dict[str, str]:
    """Everything that is printed, by name."""
    return {
        "parameters": _parameter_table(result),
        "work": _work_table(result),
        "tower": _tower_sentence(result),
        "time": _time_table(result),
        "memory": _memory_table(result),
        "features": _feature_table(result),
        "fsdp": _fsdp_sentence(result),
    }


def _title(found: dict) -> str:
    return f"{found['stage']}, {found['data']}, `{found['recipe']}`"


def _hours(value: float) -> str:
    return f"{value:.1f}" if value >= 1 else f"{value:.2f}"


def _parameter_table(result: dict) -> str:
    s = result["sizes"]
    rows = [
        f"vision tower | {s['tower']:,} | frozen; EVA's own {s['eva']:,}, zero key biases and the last norm",
        f"language model | {s['language_model']:,} | frozen",
        f"projector | {s['projector']:,} | = {4 * s['tower_width']:,} x {s['width']:,} + {s['width']:,}",
        f"LoRA | {s['lora']:,} | = {s['layers']} layers x 2 x 2 x {s['width']:,} x {s['lora_r']}",
        f"trained | {s['trainable']:,} | = {s['projector']:,} + {s['lora']:,}",
    ]
    return table("part | parameters | how", rows)


def _work_table(result: dict) -> str:
    rows = []
    for name, text in result["assumed"]["text"].items():
        found = next(entry for entry in result["plans"] if entry["data"] == name)
        parts = found["flops_per_sample"]
        step = " + ".join(f"{value / 1e12:.2f}" for key, value in parts.items() if key != "total")
        rows.append(
            f"{name} | {found['length']['value']} {found['length']['step']} | {parts['total'] / 1e12:.2f} | = {step} "
            f"| {text['source']}"
        )
    return table("data | tokens = image + prompt + answer | TFLOP a sample | parts | lengths from", rows)


def _tower_sentence(result: dict) -> str:
    found = next(entry for entry in result["plans"] if entry["data"] == "vqa_rad")["flops_per_sample"]
    if not result["tower_is_differentiated"]:
        return "The frozen tower is run forward only, with gradient checkpointing too; looked up on a small network."
    extra = found["tower again and backward"]
    return (
        "Gradient checkpointing makes trl mark the outputs of all embeddings as needing gradients, the tower's among "
        "them: the frozen tower is then run forward twice and differentiated, for nothing (looked up on a small "
        f"network). It costs {extra / 1e12:.2f} of {found['total'] / 1e12:.2f} TFLOP a sample of VQA-RAD, "
        f"{extra / found['total']:.0%}. The figures here include it."
    )


def _time_table(result: dict) -> str:
    share, gpus, rows = result["assumed"]["utilisation"], result["assumed"]["gpus"], []
    for found in result["plans"]:
        work = found["samples"]["value"] * found["flops_per_sample"]["total"]
        rate = gpus["A40"]["bf16_tflops"]
        times = " | ".join(f"{_hours(hours['1'])} / {_hours(hours['4'])}" for hours in found["hours"].values())
        rows.append(
            f"{_title(found)} | {found['samples']['value']:,} {found['samples']['step']} | {work / 1e15:,.0f} "
            f"| {times} | = {work / 1e15:,.0f} / ({rate} x {share} x 3.6) = {_hours(found['hours']['A40']['1'])}"
        )
    names = " | ".join(f"h on {name}, 1 / 4" for name in gpus)
    return table(f"stage | samples | PFLOP | {names} | step, one A40", rows)


def _memory_table(result: dict) -> str:
    rows = []
    for found in result["plans"]:
        if found["recipe"] != "paper":
            continue
        m, longest = found["memory"], found["memory_longest"]
        fixed = " + ".join(f"{m[name] / GB:.2f}" for name in ("frozen", "trained", "head", "other"))
        rows.append(
            f"{found['data']} | {found['batch_size']} | {fixed} | {m['activations_checkpointed'] / GB:.2f} | "
            f"{m['activations'] / GB:.2f} | {m['peak_checkpointed'] / GB:.1f} | {m['peak'] / GB:.1f} | "
            f"{longest['peak_checkpointed'] / GB:.1f} / {longest['peak'] / GB:.1f}"
        )
    head = "data | batch | frozen + trained + head + other | activations, checkpointed | kept whole"
    return table(f"{head} | peak, checkpointed | peak, whole | peaks at 1,024 answer tokens", rows)


def _feature_table(result: dict) -> str:
    s, rows = result["sizes"], []
    each = s["image_tokens"] * 4 * s["tower_width"] * 2
    step = f"{s['image_tokens']} x {4 * s['tower_width']:,} x 2 bytes"
    for found in result["plans"]:
        if found["recipe"] == "paper" and found["features_bytes"]:
            pictures = found["features_bytes"] // each
            size = f"{found['features_bytes'] / GB:.1f} GB = {pictures:,} x {step}"
            rows.append(f"{found['data']} | {size} | {found['features_save']:.0%}")
    return table("data | size | share of the work saved after the first epoch", rows)


def _fsdp_sentence(result: dict) -> str:
    saved, seconds = result["fsdp"]["saved_bytes"] / GB, result["fsdp"]["gather_seconds"]
    found = next(entry for entry in result["plans"] if entry["data"] == "vqa_rad")
    rate = result["assumed"]["gpus"]["A40"]["bf16_tflops"] * 1e12 * result["assumed"]["utilisation"]
    work = found["flops_per_sample"]["total"] / rate
    return (
        f"Sharding would save {saved:.1f} GB a GPU (3/4 of the frozen weights). They would have to be gathered for "
        f"every pass: {saved:.1f} GB / {result['assumed']['link_gb_s']:g} GB/s = {seconds:.2f} s, three times a "
        f"micro-batch with checkpointing, so {3 * seconds:.1f} s beside {work:.2f} s of arithmetic "
        "(VQA-RAD, batch 1, A40)."
    )
