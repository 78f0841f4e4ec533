#!/usr/bin/env python3
"""Writes the folders beside it: tiny random encoders with trained tokenizers as Hugging Face and sentence-transformers
store them, and in golden.json and golden.safetensors what these two make of texts.

    python3 tests/conformance/embedding/make_folders.py [NAME ...]

golden.json is a list of {text, ids, vector}; golden.safetensors holds `tokens` and `hidden` [n, n_embd] of a longer
text. modernbert-long has no tokenizer and reads 700 tokens, more than a pass takes; `hidden` has every seventh row.
Needs torch, transformers, sentence-transformers, tokenizers, sentencepiece and safetensors.
"""

import io
import json
import os
import shutil
import sys

import numpy as np
import torch
import transformers
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path[:0] = [HERE, os.path.join(HERE, "..", "tokenizers")]
import vocabularies  # noqa: E402
from make_golden import randomize  # noqa: E402

vocabularies.SMALL = True
TEXTS = [
    "Hello, world! How are you?", "", "The quick brown fox jumps over the lazy dog.", "東京は日本の首都です。", "Ça va très BIEN, élève?",
    "Привет, мир! 1234 times 3.14159", "tabs\tand   runs of\n\nspaces ", "😀 unknown ☃ ﬁne ①②", "[MASK] and <mask> stay",
]
SIZES = dict(hidden_size=32, num_hidden_layers=2, num_attention_heads=4, intermediate_size=40, max_position_embeddings=66)


def wordpiece(folder):
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    tok = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tok.normalizer = normalizers.BertNormalizer()
    tok.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tok.decoder = decoders.WordPiece("##")
    tok.train_from_iterator(vocabularies.corpus(), trainers.WordPieceTrainer(
        vocab_size=420, special_tokens=special, limit_alphabet=150, show_progress=False))
    tok.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=[("[CLS]", 2), ("[SEP]", 3)])
    names = dict(zip(["pad_token", "unk_token", "cls_token", "sep_token", "mask_token"], special))
    transformers.PreTrainedTokenizerFast(tokenizer_object=tok, **names).save_pretrained(folder)
    return tok.get_vocab_size()


def byte_level(folder):
    special = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
    tok = Tokenizer(models.BPE())
    tok.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tok.decoder = decoders.ByteLevel()
    tok.train_from_iterator(vocabularies.corpus(), trainers.BpeTrainer(
        vocab_size=420, special_tokens=special, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False))
    tok.post_processor = processors.RobertaProcessing(("</s>", 2), ("<s>", 0), add_prefix_space=False)
    names = dict(bos_token="<s>", pad_token="<pad>", eos_token="</s>", unk_token="<unk>", cls_token="<s>", sep_token="</s>",
                 mask_token="<mask>")
    transformers.PreTrainedTokenizerFast(tokenizer_object=tok, **names).save_pretrained(folder)
    return tok.get_vocab_size()


def rules():
    """A small character map in which all white space becomes spaces, as in the real one."""
    path = vocabularies.small_rules(folded=False)
    with open(path, "a") as f:
        f.writelines(f"{c:X}\t20\n" for c in [0xD, 0x2028, 0x2029])
    return path


def unigram(folder):
    """XLM-RoBERTa's: a SentencePiece vocabulary and character map, special tokens in front and <mask> at the end."""
    import sentencepiece as spm
    out = io.BytesIO()
    spm.SentencePieceTrainer.train(
        sentence_iterator=iter(list(vocabularies.corpus()) * 4), model_writer=out, vocab_size=420, hard_vocab_limit=False,
        minloglevel=2, model_type="unigram", normalization_rule_tsv=rules(),
        character_coverage=0.98)
    charsmap, pieces = vocabularies.parse_model(out.getvalue())
    vocab = [("<s>", 0.0), ("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0)] + pieces[3:] + [("<mask>", 0.0)]
    transformers.XLMRobertaTokenizer(
        vocab=vocab, _spm_precompiled_charsmap=charsmap).save_pretrained(folder)
    return len(vocab)


def older_names(folder):
    """As the first files of BERT: below "bert." and the parts of norms by their letters."""
    path = os.path.join(folder, "model.safetensors")
    tensors = {"bert." + key.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta"): value
               for key, value in load_file(path).items()}
    save_file(tensors, path)


def rewrite_config(folder, change):
    path = os.path.join(folder, "config.json")
    with open(path) as f:
        config = json.load(f)
    change(config)
    with open(path, "w") as f:
        json.dump(config, f, indent=2)


def original_nomic(config):
    """As the family's own code has it."""
    names = dict(hidden_size="n_embd", num_attention_heads="n_head", num_hidden_layers="n_layer", intermediate_size="n_inner",
                 max_position_embeddings="n_positions", layer_norm_eps="layer_norm_epsilon")
    for theirs, ours in names.items():
        config[ours] = config.pop(theirs)
    config["rotary_emb_base"] = config.pop("rope_parameters")["rope_theta"]
    del config["hidden_act"], config["head_dim"]
    config.update(activation_function="swiglu", rotary_emb_fraction=1.0, prenorm=False)


def original_modernbert(config):
    """As it was before transformers had a form for layers of different kinds."""
    del config["layer_types"], config["rope_parameters"]
    config.update(global_attn_every_n_layers=3, global_rope_theta=160000.0, local_rope_theta=10000.0)


# name -> (model, configuration, changes, tokenizer, steps of sentence-transformers or None, what to do when saving)
CASES = {
    "bert": ("BertModel", "BertConfig", SIZES, wordpiece, ("mean", True), None),
    "bert-old": ("BertModel", "BertConfig", SIZES, wordpiece, ("cls", True), older_names),
    "roberta": ("RobertaModel", "RobertaConfig", SIZES, byte_level, ("lasttoken", False), None),
    "xlm-roberta": ("XLMRobertaModel", "XLMRobertaConfig", dict(SIZES, type_vocab_size=1, layer_norm_eps=1e-5), unigram,
                    ("cls", True), None),
    "distilbert": ("DistilBertForMaskedLM", "DistilBertConfig",
                   dict(dim=32, n_layers=2, n_heads=4, hidden_dim=40, max_position_embeddings=64), wordpiece, None, None),
    "nomic": ("NomicBertModel", "NomicBertConfig", SIZES, wordpiece, ("mean", True),
              lambda folder: rewrite_config(folder, original_nomic)),
    "modernbert": ("ModernBertModel", "ModernBertConfig",
                   dict(SIZES, num_hidden_layers=4, local_attention=8, pad_token_id=1, bos_token_id=0, cls_token_id=0,
                        eos_token_id=2, sep_token_id=2), byte_level, ("mean", False),
                   lambda folder: rewrite_config(folder, original_modernbert)),
}


def save_steps(folder, pooling, norm):
    kinds = ["Transformer", "Pooling"] + ["Normalize"] * norm
    modules = [{"idx": i, "name": str(i), "path": f"{i}_{kind}" if i > 0 else "",
                "type": "sentence_transformers.models." + kind} for i, kind in enumerate(kinds)]
    with open(os.path.join(folder, "modules.json"), "w") as f:
        json.dump(modules, f, indent=2)
    keys = {"mean": "mean_tokens", "cls": "cls_token", "lasttoken": "lasttoken"}
    steps = {"word_embedding_dimension": 32, **{f"pooling_mode_{key}": name == pooling for name, key in keys.items()}}
    os.mkdir(os.path.join(folder, "1_Pooling"))
    with open(os.path.join(folder, "1_Pooling", "config.json"), "w") as f:
        json.dump(steps, f, indent=2)


def vector_of(folder, model, ids, text, steps):
    if steps is not None:
        from sentence_transformers import SentenceTransformer
        return SentenceTransformer(folder, device="cpu").encode(text)
    with torch.no_grad():
        mean = body_of(model)(torch.tensor([ids])).last_hidden_state[0].mean(0).numpy()
    return mean / np.linalg.norm(mean)


def body_of(model):
    return getattr(model, model.base_model_prefix, model)


def write_golden(folder, model, n_vocab, steps):
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    golden = []
    for text in TEXTS:
        ids = tokenizer(text)["input_ids"]
        golden.append({"text": text, "ids": ids, "vector": [round(float(v), 8) for v in vector_of(folder, model, ids, text, steps)]})
    with open(os.path.join(folder, "golden.json"), "w") as f:
        f.write("[\n" + ",\n".join(json.dumps(g) for g in golden) + "\n]\n")
    # No padding among them: positions would not count it.
    tokens = np.random.default_rng(1907).integers(5, n_vocab, 60).tolist()
    with torch.no_grad():
        hidden = body_of(model)(torch.tensor([tokens])).last_hidden_state[0].contiguous()
    save_file({"tokens": torch.tensor(tokens, dtype=torch.int32), "hidden": hidden.float()},
              os.path.join(folder, "golden.safetensors"))


def write_long():
    """Windows of 128 tokens in two of four layers, so that parts of the text see their neighbours and the whole of it."""
    folder = os.path.join(HERE, "modernbert-long")
    shutil.rmtree(folder, ignore_errors=True)
    torch.manual_seed(700)
    config = transformers.ModernBertConfig(
        vocab_size=64, hidden_size=32, num_hidden_layers=4, num_attention_heads=4, intermediate_size=24,
        max_position_embeddings=1024, local_attention=128, pad_token_id=1, bos_token_id=0, cls_token_id=0, eos_token_id=2,
        sep_token_id=2)
    config._attn_implementation = "eager"
    model = transformers.ModernBertModel(config).eval()
    randomize(model)
    model.save_pretrained(folder)
    rewrite_config(folder, original_modernbert)
    tokens = np.random.default_rng(700).integers(5, 64, 700).tolist()
    with torch.no_grad():
        hidden = model(torch.tensor([tokens])).last_hidden_state[0][::7].contiguous()
    save_file({"tokens": torch.tensor(tokens, dtype=torch.int32), "hidden": hidden.float()},
              os.path.join(folder, "golden.safetensors"))


def main():
    if len(sys.argv) < 2 or "modernbert-long" in sys.argv[1:]:
        write_long()
    for name, (model_class, config_class, sizes, tokenizer, steps, change) in CASES.items():
        if len(sys.argv) > 1 and name not in sys.argv[1:]:
            continue
        folder = os.path.join(HERE, name)
        shutil.rmtree(folder, ignore_errors=True)
        os.mkdir(folder)
        torch.manual_seed(sum(map(ord, name)))
        n_vocab = tokenizer(folder)
        config = getattr(transformers, config_class)(vocab_size=n_vocab, **sizes)
        config._attn_implementation = "eager"
        model = getattr(transformers, model_class)(config).eval()
        randomize(model)
        model.save_pretrained(folder)
        if steps is not None:
            save_steps(folder, *steps)
        write_golden(folder, model, n_vocab, steps)
        if change is not None:
            change(folder)
        print(name, n_vocab, sorted(os.listdir(folder)))


if __name__ == "__main__":
    main()
