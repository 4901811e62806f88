"""What other libraries call things, and what they are called here: for messages about options that do not exist."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

_FIT_VALID = "it is looked at after each epoch: fit(train, valid)"
_SAVED = "checkpoints are asked for in fit(train, output_dir='run', save_every=100)"
_BATCH = "it is called batch_size here, the rows of one optimizer step"
_PASS = "batch_size is the rows of one step, micro_batch_size those of one pass, which never changes the result"
_MIXED = "it is called precision here: precision='bf16', 'fp16', 'fp32' or 'auto'"
_STOP = "early_stopping=EarlyStopping('loss', patience=2) here"
_BEST = "keep_best='f1_macro' here; the best weights come back when the run ends"
_LOADING = "model=Pretrained('folder', quantize='4bit') here, or '8bit'"
_QUIET = "fit(..., progress=False) prints nothing, and callbacks see every step"
_ADAPTER = "it belongs to the adapter: adapter=LoRA(r=16, alpha=32, dropout=0.05, targets=['q_proj', 'v_proj'])"
_LABELS = "labels are those of the data: TaskDataset(rows, ..., label_names=[...])"
_GENERATION = "it belongs to generation: Generation(max_new_tokens=64, temperature=0.0)"
_DATA = "data go to the call: fit(train, valid)"
_COLUMN = "columns are named where the data is made: TaskDataset(rows, text='review', label='stars')"


def _called(name: str, example: str) -> str:
    return f"it is called {name} here: {example}"


#: Options of other libraries -> what to write here.
_OPTIONS: Final[Mapping[str, str]] = {
    # How long, how fast.
    **dict.fromkeys(
        ("num_train_epochs", "num_epochs", "n_epochs", "max_epochs", "nb_epochs", "total_epochs"),
        _called("epochs", "epochs=3"),
    ),
    **dict.fromkeys(
        ("num_training_steps", "total_steps", "max_iters", "iters"), _called("max_steps", "max_steps=1000")
    ),
    **dict.fromkeys(("lr", "peak_lr", "base_lr", "lr_rate"), _called("learning_rate", "learning_rate=2e-5")),
    **dict.fromkeys(
        ("head_lr", "classifier_lr", "head_lr_multiplier"), _called("head_learning_rate", "head_learning_rate=1e-3")
    ),
    **dict.fromkeys(
        ("layer_wise_lr_decay", "layerwise_lr_decay", "lr_layer_decay", "llrd"),
        _called("layer_decay", "layer_decay=0.75"),
    ),
    **dict.fromkeys(("lr_scheduler_type", "lr_scheduler", "scheduler"), _called("schedule", "schedule='linear'")),
    **dict.fromkeys(
        ("warmup_ratio", "warmup_proportion"), _called("warmup", "warmup=0.1, a share of the steps when it is a float")
    ),
    **dict.fromkeys(
        ("warmup_steps", "num_warmup_steps"), _called("warmup", "warmup=100, a number of steps when it is an int")
    ),
    **dict.fromkeys(
        ("gradient_clip_val", "max_norm", "clip_grad_norm", "gradient_clipping", "grad_clip"),
        _called("max_grad_norm", "max_grad_norm=1.0"),
    ),
    **dict.fromkeys(("optim", "optimizer", "optimizer_name"), "the optimizer is AdamW: learning_rate=, weight_decay="),
    # Batches and lengths.
    **dict.fromkeys(("per_device_train_batch_size", "per_gpu_train_batch_size", "train_batch_size", "bs"), _BATCH),
    **dict.fromkeys(
        ("per_device_eval_batch_size", "eval_batch_size", "predict_batch_size"),
        "evaluate(data, batch_size=64) and predict(..., batch_size=64) take it, and it changes no result",
    ),
    **dict.fromkeys(("gradient_accumulation_steps", "accumulate_grad_batches", "grad_accum"), _PASS),
    **dict.fromkeys(
        ("max_seq_length", "max_seq_len", "max_len", "model_max_length", "cutoff_len", "sequence_len", "block_size"),
        _called("max_length", "max_length=256"),
    ),
    **dict.fromkeys(
        ("packing", "sample_packing"), "rows lie end to end inside of the model by themselves: padding_free"
    ),
    # Pictures, sounds and sequences.
    **dict.fromkeys(
        ("image_size", "img_size", "input_size", "imgsz", "resolution", "crop_size"),
        "it belongs to the inputs: inputs=Image(size=224)",
    ),
    **dict.fromkeys(
        ("augmentation", "augmentations", "data_augmentation", "transform", "transforms", "auto_augment"),
        "it belongs to the inputs: inputs=Image(augment='light'), or Audio(augment='light')",
    ),
    **dict.fromkeys(
        ("image_processor", "feature_extractor"), "it belongs to the inputs: inputs=Image(processor=...), or Audio(...)"
    ),
    **dict.fromkeys(
        ("audio_window", "max_duration", "max_seconds", "max_duration_in_seconds", "chunk_length_s"),
        "it belongs to the inputs: inputs=Audio(seconds=15)",
    ),
    **dict.fromkeys(("sample_rate", "sr"), "it belongs to the inputs: inputs=Audio(sampling_rate=16000)"),
    **dict.fromkeys(("kmer", "k_mer"), "it belongs to the inputs: inputs=Sequence(alphabet='dna', tokens='kmer:6')"),
    **dict.fromkeys(
        ("normalizer", "normaliser", "text_normaliser"),
        "it belongs to the task: task=SpeechRecognition(text_normalizer='english')",
    ),
    # Precision and place.
    **dict.fromkeys(("fp16", "bf16", "mixed_precision", "torch_dtype", "dtype", "tf32", "amp"), _MIXED),
    **dict.fromkeys(
        ("no_cuda", "use_cuda", "use_cpu", "gpus", "accelerator", "device_map"), _called("device", "device='cpu'")
    ),
    **dict.fromkeys(("load_in_4bit", "load_in_8bit", "quantization_config"), _LOADING),
    "gradient_checkpointing": _called("checkpointing", "checkpointing=True"),
    # Looking at validation rows.
    **dict.fromkeys(
        ("evaluation_strategy", "eval_strategy", "eval_steps", "do_eval", "val_check_interval"), _FIT_VALID
    ),
    **dict.fromkeys(("metric_for_best_model", "load_best_model_at_end", "greater_is_better", "monitor"), _BEST),
    **dict.fromkeys(("early_stopping_patience", "patience", "early_stopping_rounds"), _STOP),
    **dict.fromkeys(
        ("compute_metrics", "metric", "eval_metric"), _called("metrics", "metrics=['accuracy', 'f1_macro']")
    ),
    # Writing and telling.
    **dict.fromkeys(("save_strategy", "save_steps", "save_total_limit", "overwrite_output_dir"), _SAVED),
    **dict.fromkeys(("logging_dir", "default_root_dir", "checkpoint_dir"), _SAVED),
    **dict.fromkeys(("logging_steps", "logging_strategy", "disable_tqdm", "verbose", "log_level"), _QUIET),
    **dict.fromkeys(("report_to", "logger", "run_name"), "callbacks see every step: fit(..., callbacks=[...])"),
    **dict.fromkeys(("resume_from_checkpoint", "ckpt_path"), "fit(train, output_dir='run', resume=True) here"),
    **dict.fromkeys(("push_to_hub", "hub_model_id"), "save(path) writes a folder that any tool uploads"),
    # Parts of the model.
    **dict.fromkeys(
        ("model_name_or_path", "model_name", "pretrained_model_name_or_path", "base_model"), "model='name' here"
    ),
    **dict.fromkeys(
        ("processing_class", "tokenizer_name", "tokenizer_class"), _called("tokenizer", "tokenizer='name'")
    ),
    **dict.fromkeys(("num_labels", "id2label", "label2id", "n_classes"), _LABELS),
    **dict.fromkeys(
        ("hidden_dropout_prob", "attention_probs_dropout_prob", "dropout_rate"), _called("dropout", "dropout=0.1")
    ),
    **dict.fromkeys(("label_smoothing_factor",), _called("label_smoothing", "label_smoothing=0.1")),
    **dict.fromkeys(
        ("freeze_layers", "freeze_base_model", "freeze_encoder", "freeze_backbone"), "freeze='backbone' here"
    ),
    **dict.fromkeys(("peft_config", "lora_config", "use_peft", "use_lora", "finetuning_type"), "adapter='lora' here"),
    **dict.fromkeys(("lora_r", "lora_rank", "lora_alpha", "lora_dropout", "lora_target", "target_modules"), _ADAPTER),
    "trust_remote_code": "code that comes with a model is never run",
    # Data.
    **dict.fromkeys(("train_dataset", "eval_dataset", "train_data", "val_data", "validation_data", "train_df"), _DATA),
    **dict.fromkeys(
        ("data_collator", "collate_fn", "dataloader_num_workers", "num_workers"), "batches are laid out here"
    ),
    **dict.fromkeys(("dataset_text_field", "text_column", "label_column", "remove_unused_columns"), _COLUMN),
    **dict.fromkeys(
        ("completion_only_loss", "assistant_only_loss", "train_on_inputs", "train_on_responses_only"),
        "what is learned belongs to the task: task=CausalLM(train_on='completion'), 'last' or 'all'",
    ),
    **dict.fromkeys(("max_new_tokens", "num_beams", "temperature", "do_sample"), _GENERATION),
    **dict.fromkeys(("random_state", "random_seed", "data_seed"), _called("seed", "seed=0")),
    **dict.fromkeys(
        ("training_args", "args", "config"), "options stand in the call itself: FineTuner(model, epochs=3)"
    ),
}

#: Names that are options of other calls here.
_OF_CALLS = {
    "callbacks": "fit(train, valid, callbacks=[...]) takes them",
    "output_dir": _SAVED,
    "resume": "fit(train, output_dir='run', resume=True) takes it",
    "save_every": _SAVED,
    "progress": "fit(..., progress=False) takes it",
    "minutes": "fit(train, valid, minutes=20) takes it",
    "unlabelled": "fit(train, unlabelled=texts) takes it",
    "baseline": "fit(train, valid, baseline=True) takes it",
    "generation": _GENERATION,
}

#: Options of other libraries and of other calls -> what to write here.
ELSEWHERE: Final[Mapping[str, str]] = {**_OPTIONS, **_OF_CALLS}

#: Arguments of `fit` elsewhere.
FIT: Final[Mapping[str, str]] = {
    **{name: said if "fit(" in said else f"{said} (in FineTuner)" for name, said in _OPTIONS.items()},
    **dict.fromkeys(("train_dataset", "train_data", "x", "X"), "it is the first argument: fit(train, valid)"),
    **dict.fromkeys(
        ("eval_dataset", "val_data", "validation_data", "valid_data", "dev_data", "eval_data", "test_dataset"),
        "it is called valid here: fit(train, valid)",
    ),
    **dict.fromkeys(("resume_from_checkpoint", "ckpt_path"), "it is called resume here: fit(..., resume=True)"),
    **dict.fromkeys(("save_steps", "save_strategy"), "it is called save_every here, a number of optimizer steps"),
    **dict.fromkeys(("verbose", "disable_tqdm", "show_progress"), "it is called progress here: progress=False"),
    **dict.fromkeys(("default_root_dir", "logging_dir", "checkpoint_dir"), "it is called output_dir here"),
    **dict.fromkeys(
        ("epochs", "max_steps", "learning_rate", "batch_size", "max_length", "seed", "metrics", "early_stopping"),
        "it is an option of FineTuner: FineTuner(model, epochs=3, learning_rate=2e-5, batch_size=32)",
    ),
    "validation_split": "cut the data first: train, valid = data.split(0.9, 0.1)",
}

#: Arguments of `predict` elsewhere.
PREDICT: Final[Mapping[str, str]] = {
    **dict.fromkeys(
        (
            "max_new_tokens",
            "max_length",
            "num_beams",
            "temperature",
            "do_sample",
            "top_p",
            "top_k",
            "generation_config",
        ),
        "give predict(..., generation=Generation(max_new_tokens=64, temperature=0.7))",
    ),
    **dict.fromkeys(("threshold",), "predictions hold every probability: .probabilities"),
    **dict.fromkeys(("truncation", "padding", "return_tensors"), "texts are cut and laid out as in training"),
    **dict.fromkeys(("texts", "text", "X", "inputs_ids", "sentences"), "it is the first argument: predict(inputs)"),
}


def metric_elsewhere(name: str) -> str | None:
    """What a metric of other libraries is called here, or None.

    Example:
        >>> metric_elsewhere("eval_loss"), metric_elsewhere("eval_f1"), metric_elsewhere("map_50")
        ('loss', 'f1', None)
    """
    usual = {"acc": "accuracy", "macro_f1": "f1_macro", "micro_f1": "f1_micro", "weighted_f1": "f1_weighted"}
    usual |= {"matthews_correlation": "mcc", "auc": "roc_auc", "auroc": "roc_auc", "em": "exact_match"}
    usual |= {"mean_squared_error": "mse", "pearsonr": "pearson", "spearmanr": "spearman", "ppl": "perplexity"}
    plain = name.lower().replace("-", "_")
    for start in ("eval_", "val_", "valid_", "validation_", "test_", "dev_"):
        if plain.startswith(start):
            plain = plain.removeprefix(start)
            return usual.get(plain, plain)
    return usual.get(plain)


#: Options of data elsewhere -> what to write here.
OF_DATA: Final[Mapping[str, str]] = {
    **dict.fromkeys(
        ("sep", "separators", "delim", "delimiter_char"), "it is called delimiter in from_csv: delimiter=';'"
    ),
    **dict.fromkeys(("quotechar", "quote_char", "quote"), "it is called quoting in from_csv: quoting='\"', or None"),
    **dict.fromkeys(("escapechar", "escape_char"), "it is called escape in from_csv: escape='\\\\'"),
    "sheet_name": "it is called sheet in from_excel: sheet='reviews'",
    **dict.fromkeys(
        ("text_column", "text_col", "dataset_text_field", "text_field", "sentence1_key"), "text='review' here"
    ),
    **dict.fromkeys(
        ("label_column", "label_col", "target_column", "label_field", "y"), "label='stars' here, or target="
    ),
    **dict.fromkeys(("id2label", "class_names", "classes", "names", "label_list"), "label_names=['bad', 'good'] here"),
    **dict.fromkeys(("errors", "on_bad_lines", "on_error"), "on_invalid='drop' leaves out rows that cannot be used"),
}
