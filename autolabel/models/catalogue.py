"""Published weights that the families load, with licence and size.

Licences and sizes are those of the hub's pages. Two groups are given the licence of their authors' repositories:
SAM-HQ, whose pages state none, and MM-Grounding-DINO (MMDetection).
"""

from __future__ import annotations

from dataclasses import dataclass

APACHE = "Apache-2.0"
PERMISSIVE = frozenset({APACHE})
"""Licences that let anybody use the weights, also at work; shipped configs take no others."""


@dataclass(frozen=True)
class Published:
    """Weights in transformers' format, with safetensors.

    - `weights`: as a config names them: a hub id, or `bundled:NAME`.
    - `licence`: its SPDX id where it has one.
    - `size_mb`: of the weights alone, about, in 10^6 bytes.
    - `is_gated`: the hub gives them only to those who logged in and were let in.
    """

    weights: str
    family: str
    licence: str
    size_mb: int
    use: str
    is_gated: bool = False


CATALOGUE: tuple[Published, ...] = (
    Published("bundled:detector", "grounding_dino", APACHE, 5, "demo and tests; knows drawn tools only"),
    Published("bundled:segmenter", "sam", APACHE, 5, "demo and tests; knows drawn tools only"),
    Published("IDEA-Research/grounding-dino-tiny", "grounding_dino", APACHE, 689, "the usual start; Swin-T"),
    Published("IDEA-Research/grounding-dino-base", "grounding_dino", APACHE, 933, "larger and slower; Swin-B"),
    Published(
        "openmmlab-community/mm_grounding_dino_tiny_o365v1_goldg_v3det",
        "mm_grounding_dino",
        APACHE,
        692,
        "retrained, also on V3Det; Swin-T",
    ),
    Published(
        "openmmlab-community/mm_grounding_dino_base_o365v1_goldg_v3det",
        "mm_grounding_dino",
        APACHE,
        936,
        "retrained, also on V3Det; Swin-B",
    ),
    Published(
        "openmmlab-community/mm_grounding_dino_large_o365v2_oiv6_goldg",
        "mm_grounding_dino",
        APACHE,
        1374,
        "retrained on Objects365 v2 and Open Images; Swin-L",
    ),
    Published("iSEE-Laboratory/llmdet_tiny", "mm_grounding_dino", APACHE, 692, "LLMDet; Swin-T"),
    Published("iSEE-Laboratory/llmdet_base", "mm_grounding_dino", APACHE, 936, "LLMDet; Swin-B"),
    Published("iSEE-Laboratory/llmdet_large", "mm_grounding_dino", APACHE, 1374, "LLMDet; Swin-L"),
    Published("facebook/sam3", "sam3", "SAM License", 3440, "boxes and masks from text alone", is_gated=True),
    Published("facebook/sam-vit-base", "sam", APACHE, 375, "masks; ViT-B"),
    Published("facebook/sam-vit-large", "sam", APACHE, 1250, "masks; ViT-L"),
    Published("facebook/sam-vit-huge", "sam", APACHE, 2564, "masks; ViT-H, as in the Grounded-SAM papers"),
    Published("syscv-community/sam-hq-vit-base", "sam_hq", APACHE, 379, "finer edges; ViT-B"),
    Published("syscv-community/sam-hq-vit-large", "sam_hq", APACHE, 1250, "finer edges; ViT-L"),
    Published("syscv-community/sam-hq-vit-huge", "sam_hq", APACHE, 2570, "finer edges; ViT-H"),
    Published("facebook/sam2.1-hiera-tiny", "sam2", APACHE, 156, "masks; the smallest Hiera"),
    Published("facebook/sam2.1-hiera-small", "sam2", APACHE, 184, "masks; small Hiera"),
    Published("facebook/sam2.1-hiera-base-plus", "sam2", APACHE, 323, "masks; base Hiera"),
    Published("facebook/sam2.1-hiera-large", "sam2", APACHE, 898, "masks; the largest Hiera"),
)


def published(weights: str) -> Published | None:
    """What is known of these weights; None for others than those of the catalogue."""
    return next((item for item in CATALOGUE if item.weights == weights), None)
