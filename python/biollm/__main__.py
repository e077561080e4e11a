"""`python -m biollm`: the command, as `torchrun -m biollm` starts it too."""

from biollm.cli import main

if __name__ == "__main__":
    main()
