"""Who is who: embeddings in which things of one identity lie together, whatever the things are.

Faces and voices share all this: how embeddings are read off a model, the losses, steps of so many rows of each
identity, verdicts on pairs and their threshold. What is left to a task is its input.

Letters: ``N`` rows, ``B`` rows of a batch, ``S`` sides of a row (1, or 2 of pairs), ``K`` identities, ``D`` numbers of
an embedding.
"""

from __future__ import annotations

from sftlib.tasks.identities.answers import Embedded, Verified
from sftlib.tasks.identities.learned import OBJECTIVES, Learned
from sftlib.tasks.identities.losses import Centres, arc_margin, contrastive, cosine_margin, triplet
from sftlib.tasks.identities.plan import IdentityPlan
from sftlib.tasks.identities.task import POOLINGS, IdentityTask, Seen

__all__ = [
    "OBJECTIVES",
    "POOLINGS",
    "Centres",
    "Embedded",
    "IdentityPlan",
    "IdentityTask",
    "Learned",
    "Seen",
    "Verified",
    "arc_margin",
    "contrastive",
    "cosine_margin",
    "triplet",
]
