"""``python -m lorarank``."""

from lorarank.cli import main

if __name__ == "__main__":
    main(prog_name="lorarank")
