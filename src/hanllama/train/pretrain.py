"""Pretraining: predict the next token of packed documents.

`hanllama pretrain` trains a new model on token shards, or continues an existing one; the same
command again resumes. Held-out quality is measured as loss per token and as bits per UTF-8 byte;
only the latter can be compared between tokenizers.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from hanllama.base.errors import InputError
from hanllama.batches.mix import Array, PackedRows, RowBatch, Rows
from hanllama.batches.shards import Shards, open_shards
from hanllama.model.card import ModelCard
from hanllama.model.llama import Llama
from hanllama.model.losses import cross_entropy_sum
from hanllama.model.presets import LlamaConfig
from hanllama.tokenizer.load import load_tokenizer
from hanllama.train.command import Session, training
from hanllama.train.config import LoopConfig, PretrainConfig
from hanllama.train.objective import Micro, RowObjective
from hanllama.train.parallel import World


class Pretrain(RowObjective):
    """Next-token prediction on packed rows; a micro-batch's weight is its predicted tokens."""

    name = "pretrain"

    def __init__(
        self,
        model: Llama,
        train: Rows,
        heldout: Rows | None,
        token_bytes: Array,
        loop: LoopConfig,
        world: World,
        fingerprint: Mapping[str, str],
        *,
        across_documents: bool = False,
    ) -> None:
        """
        Args:
            train, heldout: packed rows of the two splits.
            token_bytes: [V] number of UTF-8 bytes of each token.
            across_documents: let attention see a row's other documents.
            model, loop, world, fingerprint: see `RowObjective`.
        """
        super().__init__(model, loop, world, fingerprint)
        self._train, self._heldout = train, heldout
        self._across_documents = across_documents
        self._hidden = Hidden(model, loop.compile)
        self._token_bytes = torch.from_numpy(token_bytes.astype(np.int64)).to(self.device)

    def prepare(self, step: int) -> Sequence[Micro]:
        """This process's rows of the step, in micro-batches."""
        rows = self._train.batch(step, self.settings.batch_size)
        return [self._micro(self._train, part) for part in self.parts(rows)]

    def loss(self, micro: Micro) -> Tensor:
        """The sum of the negative log-likelihoods of the micro-batch's tokens."""
        tokens, labels, positions, documents = micro.data[:4]
        hidden_BTD = self._hidden(tokens, positions, documents, self.noise(micro))
        hidden_ND = hidden_BTD.reshape(-1, hidden_BTD.shape[-1])
        return cross_entropy_sum(hidden_ND, self.model.output_weight(), labels.reshape(-1))

    def noise(self, micro: Micro) -> Tensor | None:
        """The noise to add to the embeddings, [B, T, D]; None for none."""
        return None

    def evaluate(self) -> Mapping[str, float]:
        """Held-out loss per token, and bits per byte of the same text."""
        if self._heldout is None:
            return {}
        rows = self._heldout.batch(0, self.evaluated(self._heldout.n_rows))
        loss = tokens = byte_count = 0.0
        for part in self.parts(rows):
            micro = self._micro(self._heldout, part)
            loss += float(self.loss(micro))
            tokens += micro.weight
            labels = micro.data[1]
            byte_count += float(self._token_bytes[labels[labels >= 0]].sum())
        loss, tokens, byte_count = self.world.sum([loss, tokens, byte_count], self.device)
        return {
            "heldout_loss": loss / tokens,
            "heldout_bits_per_byte": loss / math.log(2) / max(byte_count, 1.0),
        }

    def row_names(
        self, rows: Sequence[int], decode: Callable[[Sequence[int]], str]
    ) -> Sequence[str]:
        """The text of each packed row; rows have no ids."""
        batch = self._train.rows(np.array(rows))
        return [decode(tokens_T.tolist()) for tokens_T in batch.tokens_RT]

    def _micro(self, source: Rows, rows: Array) -> Micro:
        batch = source.rows(rows)
        if self._across_documents:
            batch = _joined(batch)
        arrays = (batch.tokens_RT, batch.labels_RT, batch.positions_RT, batch.documents_RT)
        data = tuple(None if a is None else self._to_device(a) for a in arrays)
        return Micro(float(source.weights(rows).sum()), rows.tolist(), data)

    def _to_device(self, array: Array) -> Tensor:
        tensor = torch.from_numpy(array)
        if self.device.type == "cuda":
            return tensor.pin_memory().to(self.device, non_blocking=True)
        return tensor.to(self.device)


class Hidden:
    """`model.hidden`, compiled for training batches of the first shape that it sees.

    Compiling costs a minute per shape, so a smaller last micro-batch, evaluation (another gradient
    mode) and decoding (a new shape for every token) stay eager. The model does not change.
    """

    def __init__(self, model: Llama, compile: bool) -> None:
        self._model = model
        self._compiled = torch.compile(model.hidden, dynamic=False) if compile else None
        self._shape: torch.Size | None = None

    def __call__(
        self,
        tokens_BT: Tensor,
        positions_BT: Tensor | None,
        documents_BT: Tensor | None,
        noise_BTD: Tensor | None = None,
    ) -> Tensor:
        """The hidden states [B, T, D]; for the arguments see `Llama.hidden`."""
        if self._compiled is not None and torch.is_grad_enabled():
            self._shape = self._shape or tokens_BT.shape
            if tokens_BT.shape == self._shape:
                compiled: Tensor = self._compiled(
                    tokens_BT, positions_BT, documents_BT, None, noise_BTD
                )
                return compiled
        return self._model.hidden(tokens_BT, positions_BT, documents_BT, None, noise_BTD)


def pretrain(config: PretrainConfig) -> None:
    """Run `hanllama pretrain`: begin, resume, or report that the run is complete."""
    shards = open_shards(config.data)
    with training(config, config.loop) as session:
        model, card = _model(config, shards, session)
        context = config.context or model.config.max_position_embeddings
        pad = model.config.pad_token_id or 0
        train = PackedRows(shards.split("train"), context, config.loop.seed, pad)
        heldout = None
        if "heldout" in shards.splits:
            heldout = PackedRows(shards.split("heldout"), context, config.loop.seed, pad)
        loop = session.settled(config.loop, train.n_rows)
        session.adopt(model)
        objective = Pretrain(
            model,
            train,
            heldout,
            shards.token_bytes,
            loop,
            session.processes,
            fingerprint(shards, model.config),
            across_documents=config.cross_document_attention,
        )
        session.train(
            objective,
            config.optim,
            loop,
            tokenizer_folder=shards.tokenizer_folder,
            card=card,
            context=context,
            announcement=_announcement(model, train, loop),
        )


def _model(config: PretrainConfig, shards: Shards, session: Session) -> tuple[Llama, ModelCard]:
    """The model to train, on the CPU, and its card before this stage."""
    tokenizer = load_tokenizer(shards.tokenizer_folder)
    if config.base_model:
        found = load_tokenizer(config.base_model)
        if found.hash != tokenizer.hash:
            raise InputError(
                f"{config.data} was tokenized with another tokenizer than {config.base_model}'s:"
                f" tokenize it again with --tokenizer {config.base_model}"
            )
        return session.base_model(config.base_model, config.context)
    llama = config.model.resolve(
        shards.vocab_size,
        config.context,
        bos_token_id=tokenizer.bos_id,
        eos_token_id=tokenizer.eos_id,
        pad_token_id=tokenizer.pad_id,
    )
    generator = torch.Generator().manual_seed(config.loop.seed)
    # A resumed run overwrites these weights; to draw them is cheaper than a second path here.
    return Llama(llama, generator), ModelCard(name=session.output.name)


def fingerprint(shards: Shards, model: LlamaConfig) -> dict[str, str]:
    """Hashes that a resume of a run on these shards requires to be the same."""
    shape = json.dumps(model.to_hf(), sort_keys=True).encode()
    return {
        "data": shards.fingerprint,
        "tokenizer": str(shards.manifest["tokenizer_hash"]),
        "model": hashlib.sha256(shape).hexdigest(),
    }


def _announcement(model: Llama, train: PackedRows, loop: LoopConfig) -> str:
    tokens = loop.max_steps * loop.batch_size * train.row_length
    return (
        f"{model.config.parameter_count() / 1e6:.1f}M parameters, {train.n_predictions:,} tokens in"
        f" {train.n_rows:,} rows of {train.row_length} ({100 * train.padding_share:.2f} % padding),"
        f" {loop.max_steps:,} steps of {loop.batch_size} rows:"
        f" {tokens / max(train.n_predictions, 1):.2f} epochs"
    )


def _joined(batch: RowBatch) -> RowBatch:
    """The same rows with each row as one text: positions run on, documents are not separated."""
    positions = np.broadcast_to(np.arange(batch.tokens_RT.shape[1]), batch.tokens_RT.shape).copy()
    return RowBatch(batch.tokens_RT, batch.labels_RT, positions, None)
