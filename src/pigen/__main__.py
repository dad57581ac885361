"""``python -m pigen``, which is also what torchrun starts: the ``pigen`` command."""

from pigen.cli import main

if __name__ == "__main__":
    main()
