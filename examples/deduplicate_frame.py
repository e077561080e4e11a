"""Near-duplicates in a polars frame: mark them, look at one, keep the rest. Needs polars, no PyTorch.

python examples/deduplicate_frame.py
"""

from __future__ import annotations

import polars as pl

import biollm

TRIAL = "Aspirin reduced the risk of recurrent stroke in a randomised trial of 2,301 adults with atrial fibrillation"
FERRITIN = "Serum ferritin did not predict mortality after hip fracture in this retrospective cohort of older women"


def main() -> None:
    """Makes a small frame and deduplicates it."""
    frame = pl.DataFrame(
        {
            "pmid": ["101", "102", "103", "104"],
            "journal": ["Stroke", "Bone", "Stroke (online)", "Bone"],
            "abstract": [f"{TRIAL}.", f"{FERRITIN}.", f"{TRIAL}!", f"BACKGROUND: {FERRITIN}."],
        }
    )
    # The columns of the text and of the ids are named by the call; nothing is renamed in the frame.
    result = biollm.dedup(frame, text="abstract", id="pmid", threshold=0.7)

    # One value a row, in the frame's order: as columns they say what belongs together.
    marked = frame.with_columns(keep=pl.Series(result.keep_mask), cluster=pl.Series(result.cluster_id))
    print(marked.select("pmid", "journal", "keep", "cluster"))

    # Why a row goes, and the exact similarity that decided it.
    print(result.why("103"))
    print(result.why("104"))

    # What came in comes back: a polars frame.
    unique = result.filter()
    print(unique.height, "of", frame.height, "kept:", unique["pmid"].to_list())


if __name__ == "__main__":
    main()
