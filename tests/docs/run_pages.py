"""Runs the code blocks of pages: `python run_pages.py RESULTS.json PAGE...`; used by `test_blocks.py`.

Each page has a process and a temporary folder of its own. `python` blocks share a namespace, `sh` blocks run in
bash, a block with a file's name for a title is written there, and a block titled "Output" must be what the block
before it printed (`...` stands for anything). The processes are forked from one that has imported what is heavy and
has used none of it; `biollm` in a shell reaches the same entry point as the installed command, in such a fork.
"""

from __future__ import annotations

import ast
import contextlib
import doctest
import gc
import importlib
import io
import json
import os
import re
import resource
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import tomllib
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

import doc_pages

SHOWN_VALUE = re.compile(r"(array\(|[\[{'\"(]|-?\d|True\b|False\b|None\b|[A-Z]\w+\()")

HEAVY = (
    *("pandas", "polars", "pyarrow.compute", "pyarrow.dataset", "pyarrow.pandas_compat", "pyarrow.parquet"),
    *("torch", "torch._dynamo", "transformers", "safetensors.torch", "tokenizers", "pydantic.type_adapter"),
    *("biollm.cli.app", "biollm.demo.run", "biollm.recipe.run", "biollm.report"),
    *("biollm.readers.reading", "biollm.readers.stage", "biollm.deduplication.stage", "biollm.selection.stage"),
    *("biollm.deduplication.deduplicating", "biollm.selection.selecting", "biollm.tokenization.sharding"),
    *("biollm.tokenization.stage", "biollm.training.pretraining", "biollm.training.stage"),
    *("biollm.inference.decode", "biollm.inference.stage", "biollm.models.checkpoints", "biollm.evaluation.stage"),
    *("biollm.quantization.quantizing", "biollm.quantization.stage"),
    *("biollm.alignment.aligning", "biollm.alignment.stage"),
)

CLIENT = """\
#!{python} -ISs
import array, json, os, socket, sys
link = socket.socket(socket.AF_UNIX)
link.connect({address!r})
link.sendmsg([json.dumps([sys.argv[1:], os.getcwd(), dict(os.environ)]).encode()],
             [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [0, 1, 2]))])
sys.exit(int(link.recv(16) or b"1"))
"""

PIP = """\
#!{python} -ISs
# Stands in for pip: what it is asked to install must be this project, with extras that it has.
import re, sys, tomllib
extras = tomllib.load(open({pyproject!r}, "rb"))["project"]["optional-dependencies"]
arguments = [a for a in sys.argv[1:] if not a.startswith("-")]
if arguments.pop(0) != "install": sys.exit("only pip install is known here")
for argument in arguments:
    match = re.fullmatch(r"(?:\\.|biollm)(?:\\[([\\w,]+)\\])?", argument)
    if not match: sys.exit(f"not this project: {{argument}}")
    for extra in (match[1] or "").split(","):
        if extra and extra not in extras: sys.exit(f"no extra {{extra}}")
"""


# --- a fork of this process for each command and page ---------------------------------------------------------------


def serve(address: str) -> None:
    """Runs `biollm` for the clients on a socket, each in a fork of this process."""
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(address)
    listener.listen()
    while True:
        link, _ = listener.accept()
        if os.fork() == 0:
            listener.close()
            _serve_one(link)
        link.close()
        with contextlib.suppress(ChildProcessError):
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass


def _serve_one(link: socket.socket) -> None:
    data, descriptors, _, _ = socket.recv_fds(link, 1 << 20, 3)
    arguments, folder, environment = json.loads(data)
    child = os.fork()
    if child == 0:
        for target, descriptor in enumerate(descriptors):
            os.dup2(descriptor, target)
        os.chdir(folder)
        os.environ.update(environment)
        # What CI runs as a step of its own, and takes minutes, is only read here.
        sys.argv = ["biollm", *arguments, *(["--help"] if arguments[:1] == ["demo"] else [])]
        _leave(_command)
    _, status = os.waitpid(child, 0)
    link.sendall(str(os.waitstatus_to_exitcode(status)).encode())
    os._exit(0)


def _command() -> int:
    from biollm.cli import main

    try:
        main()
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else int(end.code is not None)
    return 0


def _leave(work: Callable[[], int]) -> None:
    """Ends this process with what `work` gives; never returns."""
    sys.stdout, sys.stderr = open(1, "w", closefd=False), open(2, "w", closefd=False)
    code = 1
    try:
        code = work()
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def in_fork(work: Callable[[], Any]) -> Any:
    """What `work` gives, done in a fork of this process; it must be plain JSON."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reader)

        def answer() -> int:
            with open(writer, "w") as out:
                json.dump(work(), out)
            return 0

        _leave(answer)
    os.close(writer)
    with open(reader) as answered:
        text = answered.read()
    _, status = os.waitpid(child, 0)
    if os.waitstatus_to_exitcode(status):
        raise RuntimeError("a page's process ended with an error; it is printed above")
    return json.loads(text)


# --- what pages find in their folder --------------------------------------------------------------------------------


def make_abstracts(folder: Path) -> None:
    """`abstracts/part-0.jsonl.gz` and `part-1.jsonl.gz`: 200 documents of the demo's sample."""
    import gzip

    from biollm.demo.corpus import generate

    (folder / "abstracts").mkdir()
    documents = generate("tiny")[:200]
    for part in range(2):
        with gzip.open(folder / "abstracts" / f"part-{part}.jsonl.gz", "wt", encoding="utf-8") as out:
            for document in documents[part::2]:
                row = {"id": document.id, "text": document.text, "source": document.source, "year": document.year}
                out.write(json.dumps(row) + "\n")


def make_documents(folder: Path) -> None:
    """`documents`: the abstracts as `read` leaves them."""
    import biollm

    biollm.read(folder / "abstracts" / "*.jsonl.gz", output=folder / "documents")


def make_shards(folder: Path) -> None:
    """`shards`: the documents tokenized."""
    import biollm

    biollm.tokenize(folder / "documents", vocab_size=512, validation_fraction=0.1, output=folder / "shards")


def make_model(folder: Path) -> None:
    """`model`: a model of the shards, hardly trained."""
    import biollm

    biollm.train(folder / "shards", size="tiny", steps=2, seq_len=64, batch_size=2, output=folder / "model")


def make_pubmed(folder: Path) -> None:
    """`pubmed`: two baseline files and an update, with NLM's checksum beside each.

    The update replaces the first record and deletes the second.
    """
    import gzip
    import hashlib

    def record(pmid: int, text: str) -> str:
        article = f"<ArticleTitle>Trial {pmid}</ArticleTitle><Abstract><AbstractText>{text}</AbstractText></Abstract>"
        citation = f"<PMID Version='1'>{pmid}</PMID><Article>{article}</Article>"
        return f"<PubmedArticle><MedlineCitation>{citation}</MedlineCitation></PubmedArticle>"

    files = {
        "baseline/pubmed26n0001.xml.gz": record(1, "Pain fell.") + record(2, "Nobody knows."),
        "baseline/pubmed26n0002.xml.gz": record(3, "Survival did not differ."),
        "updatefiles/pubmed26n1335.xml.gz": record(1, "Pain fell by half.")
        + "<DeleteCitation><PMID Version='1'>2</PMID></DeleteCitation>",
    }
    for name, records in files.items():
        path = folder / "pubmed" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(gzip.compress(f"<PubmedArticleSet>{records}</PubmedArticleSet>".encode(), mtime=0))
        digest = hashlib.md5(path.read_bytes(), usedforsecurity=False).hexdigest()
        path.with_name(f"{path.name}.md5").write_text(f"MD5({path.name})= {digest}\n")


def make_chat(folder: Path) -> None:
    """`chat`: a model tuned on chats, hardly trained."""
    from biollm.alignment.corpus import SafetyCorpus
    from chat_models import train_chat_model

    corpus = SafetyCorpus.generate(texts=200, pairs=0, evaluation=0, benign=0)
    options = {"base_steps": 1, "steps": 1, "vocab_size": 512, "batch_size": 2, "threads": 1}
    shutil.copytree(train_chat_model(folder / "chat-start", corpus, **options).path, folder / "chat")


def make_preferences(folder: Path) -> None:
    """`preferences/pairs.jsonl`: 40 pairs."""
    from biollm.alignment.corpus import SafetyCorpus

    SafetyCorpus.generate(texts=0, pairs=40, evaluation=0, benign=0).write(folder / "preferences")


#: Each needs those before it; what stands apart comes last.
CHAIN = {"abstracts": make_abstracts, "documents": make_documents, "shards": make_shards, "model": make_model}
APART = {"pubmed": make_pubmed, "chat": make_chat, "preferences": make_preferences}


def prepare(folder: Path, wanted: set[str]) -> None:
    """Makes what any page wants, once."""
    folder.mkdir()
    last = max((place for place, name in enumerate(CHAIN) if name in wanted), default=-1)
    for make in list(CHAIN.values())[: last + 1]:
        make(folder)
    for name in wanted - set(CHAIN):
        APART[name](folder)


# --- a page ---------------------------------------------------------------------------------------------------------


def run_page(name: str, prepared: Path) -> list[str]:
    """Runs the blocks of a page in this process, in the folder it is in; gives what went wrong."""
    text = doc_pages.written_pages()[name]
    for wanted in doc_pages.setups(text):
        shutil.copytree(prepared / wanted, wanted)
    namespace: dict[str, Any] = {"__name__": "__main__"}
    problems: list[str] = []
    printed = ""
    for block in doc_pages.blocks(text):
        try:
            result = run_block(block, namespace, printed)
        except BaseException as error:
            problems.append(f"{name}:{block.line}: {describe(error)}")
            break
        printed = printed if result is None else result
    return problems


def describe(error: BaseException) -> str:
    """An error in a block, with its traceback where it is not one of the tests' own."""
    return str(error) if isinstance(error, AssertionError) else "".join(traceback.format_exception(error))


def run_block(block: doc_pages.Block, namespace: dict[str, Any], printed: str) -> str | None:
    """Runs one block; gives what it printed, `None` where it is not one that prints."""
    if block.title == "Output":
        compare(block.text, printed)
        return None
    if block.title:
        path = Path(block.title)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(block.text, encoding="utf-8")
        return None
    if block.language == "python":
        code = compile(block.text, "<block>", "exec")
        return None if block.not_run else run_python(block.text, code, namespace)
    if block.language in ("sh", "bash", "console"):
        subprocess.run(["bash", "-n", "-c", block.text], check=True)
        return None if block.not_run else run_shell(block.text)
    if block.language == "toml":
        check_recipe(block.text)
    elif block.language == "json":
        json.loads(block.text)
    else:
        assert block.language == "text", f"a block of {block.language!r}: text, python, sh, toml or json"
    return None


def run_python(text: str, code: Any, namespace: dict[str, Any]) -> str:
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        exec(code, namespace)
        for expression, shown in shown_values(text):
            found = repr(eval(expression, namespace))
            if not same(shown, found):
                raise AssertionError(f"{expression} is {found}, the page says {shown}")
    return out.getvalue()


def shown_values(text: str) -> list[tuple[str, str]]:
    """Expressions that stand alone on a line, with the value a comment says they have."""
    lines = text.splitlines()
    found = []
    for node in ast.parse(text).body:
        if isinstance(node, ast.Expr) and node.lineno == node.end_lineno:
            source = ast.get_source_segment(text, node) or ""
            comment = lines[node.lineno - 1][node.end_col_offset or 0 :].strip()
            if comment.startswith("#") and SHOWN_VALUE.match(comment[1:].strip()):
                found.append((source, comment[1:].strip()))
    return found


def run_shell(text: str) -> str:
    done = subprocess.run(["bash", "-euo", "pipefail", "-c", text], capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"exit code {done.returncode}\n{done.stdout}{done.stderr}"
    return done.stdout


def compare(wanted: str, printed: str) -> None:
    assert same(wanted, printed), f"the page shows\n{wanted}\nbut this was printed\n{printed}"


def same(wanted: str, found: str) -> bool:
    """Whether a text is what a page shows: `...` stands for anything, blanks are counted as one."""
    flags = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
    return doctest.OutputChecker().check_output(wanted.strip() + "\n", found.strip() + "\n", flags)


def check_recipe(text: str) -> None:
    """A part of a recipe: TOML whose stages have verbs and keys that exist, with values of their types."""
    from biollm.recipe import load_stage, parse_recipe
    from biollm.recipe.options import build

    if "[[stage]]" not in text:
        tomllib.loads(text)
        return
    for spec in parse_recipe(text, Path("recipe.toml")).stages:
        stage = load_stage(spec.verb)
        build(stage.options, dict(spec.options), where=spec.name)


# --- all of it ------------------------------------------------------------------------------------------------------


def main() -> None:
    results, names = Path(sys.argv[1]), sys.argv[2:]
    import_heavy()
    with tempfile.TemporaryDirectory(prefix="biollm-docs-") as temporary:
        root = Path(temporary)
        address, programs = str(root / "socket"), root / "bin"
        programs.mkdir()
        scripts = {
            "biollm": CLIENT.format(python=sys.executable, address=address),
            "pip": PIP.format(python=sys.executable, pyproject=str(doc_pages.ROOT / "pyproject.toml")),
            "pytest": "#!/bin/sh\nexit 0\n",
            "python": f'#!/bin/sh\nexec {sys.executable} "$@"\n',
        }
        for script, text in scripts.items():
            (programs / script).write_text(text)
            (programs / script).chmod(0o755)
        server = os.fork()
        if server == 0:
            serve(address)
        os.environ["PATH"] = f"{programs}:{os.environ['PATH']}"
        try:
            wanted = {name for page in names for name in doc_pages.setups(doc_pages.written_pages()[page])}
            in_fork(lambda: prepare(root / "prepared", wanted))
            found = {}
            for number, name in enumerate(names):
                folder = root / str(number)
                folder.mkdir()
                before = time.monotonic(), cpu_s()

                def work(name: str = name, folder: Path = folder) -> list[str]:
                    os.chdir(folder)
                    return run_page(name, root / "prepared")

                found[name] = in_fork(work)
                sys.stderr.write(f"{name}: {time.monotonic() - before[0]:.1f} s\n")
        finally:
            os.kill(server, 15)
            os.waitpid(server, 0)
    results.write_text(json.dumps(found))


def cpu_s() -> float:
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def import_heavy() -> None:
    """What pages and commands import sooner or later, loaded once; none of it may start a thread here."""
    for name in HEAVY:
        with contextlib.suppress(ImportError):
            importlib.import_module(name)
    # What is loaded stays: no collection in a fork has to go through it.
    gc.freeze()


if __name__ == "__main__":
    main()
