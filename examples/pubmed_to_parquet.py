"""PubMed XML to Parquet: a baseline file and an update, revised and deleted records taken into account. No PyTorch.

python examples/pubmed_to_parquet.py [OUTPUT]

It writes two small files first, in the form of NLM's; give `biollm.read` your own in their place.
"""

from __future__ import annotations

import gzip
import sys
import tempfile
from pathlib import Path

import pyarrow.dataset as ds

import biollm

RECORD = """\
<PubmedArticle><MedlineCitation><PMID Version="1">{pmid}</PMID><Article>
  <Journal><JournalIssue><PubDate><Year>{year}</Year></PubDate></JournalIssue><Title>Example Journal</Title></Journal>
  <ArticleTitle>{title}</ArticleTitle>
  <Abstract>
    <AbstractText Label="METHODS">We gave 5 &#x3bc;g of B<sub>12</sub> to {number} adults.</AbstractText>
    <AbstractText Label="RESULTS">Levels rose (<i>P</i> &lt; 0.001).</AbstractText>
  </Abstract>
  <Language>eng</Language>
</Article></MedlineCitation></PubmedArticle>"""


def write_sample(folder: Path) -> None:
    """A baseline of three records, and an update that revises the first and deletes the second."""
    files = {
        "pubmed26n0001.xml.gz": [
            RECORD.format(pmid=1, year=2020, title="A first report", number=12),
            RECORD.format(pmid=2, year=2021, title="A withdrawn report", number=9),
            RECORD.format(pmid=3, year=2022, title="A trial", number=240),
        ],
        "pubmed26n1335.xml.gz": [
            RECORD.format(pmid=1, year=2020, title="A first report, corrected", number=13),
            '<DeleteCitation><PMID Version="1">2</PMID></DeleteCitation>',
        ],
    }
    for name, records in files.items():
        text = f"<PubmedArticleSet>{''.join(records)}</PubmedArticleSet>"
        (folder / name).write_bytes(gzip.compress(text.encode()))


def main(output: str | None = None) -> None:
    """Reads the files and looks at what became of them."""
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        write_sample(folder)
        target = Path(output) if output else folder / "documents"

        # All files in one call: which records count depends on all of them.
        result = biollm.read(folder / "*.xml.gz", output=target)
        counts = result.manifest.counts
        print(len(result), "documents;", counts["replaced"], "replaced,", counts["deleted"], "deleted")

        # Plain Parquet, one column a field.
        table = ds.dataset(target / "documents").to_table(columns=["pmid", "title", "year", "text", "sections"])
        for row in table.to_pylist():
            print(row["pmid"], row["year"], row["title"])
            for section in row["sections"]:
                # Places in the UTF-8 bytes of the text.
                part = row["text"].encode()[section["start_byte"] : section["end_byte"]].decode()
                print("   ", part)


if __name__ == "__main__":
    main(*sys.argv[1:])
