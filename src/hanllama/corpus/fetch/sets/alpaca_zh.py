"""About 49,000 Alpaca instructions with GPT-4's answers, in Chinese."""

from __future__ import annotations

from hanllama.corpus.fetch.sets import DataSet

SET = DataSet(
    repo="shibing624/alpaca-zh",
    modelscope="llamafactory/alpaca_gpt4_zh",
    files=("alpaca_gpt4_data_zh.json",),
    modelscope_files=("*.json",),
    layout="alpaca",
    stage="sft",
    licence="cc-by-4.0",
    size="35 MB",
    zh="GPT-4 生成的中文 Alpaca 指令，约 4.9 万条",
    en="about 49,000 Alpaca instructions with GPT-4's answers, in Chinese",
    verified="file, size, licence: the repository's pages; ModelScope: LLaMA-Factory's list",
    notes="made with GPT-4: its terms forbid training competing models",
)
