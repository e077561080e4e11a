"""The demo: a corpus with planted truth, the recipes that take it from raw documents to generated text, and the score.

`biollm.demo.run.demo` does all of it; the parts (`corpus`, `truth`, `score`) import neither torch nor the stages.
"""
