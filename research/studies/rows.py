"""Rows and columns that several studies share."""

from __future__ import annotations

from .frame import Changes, Column

# methods, all with the same pictures, tower and steps
NUMCLIP: Changes = {}
PLAIN: Changes = {"method": {"weighting": None}}  # NumCLIP without distance weights in its losses
L1_ALONE: Changes = {"method": {"loss_weights": [0.0, 0.0, 1.0]}}  # the same network, trained without words
WORDS_ALONE: Changes = {
    "method": {"loss_weights": [1.0, 1.0, 0.0], "refinement_hidden": 0, "refinement_embedding": False}
}
COOP: Changes = {"method": {"name": "coop"}}
ORDINALCLIP: Changes = {"method": {"name": "ordinalclip"}}
ZERO_SHOT: Changes = {"method": {"name": "zero-shot"}}

MAE, CS5 = Column("mae", "MAE"), Column("cs5", "CS@5, %", 1, percent=True)
COARSE = Column("coarse", "right word, %", 1, percent=True)
NEAR = Column("near", "right or next word, %", 1, percent=True)
EXACT = Column("exact", "exact, %", 1, percent=True)
TRAIN_N = Column("train_n", "training pictures", 0)
