"""``python -m lorarank``."""

from lorarank.cli import run

if __name__ == "__main__":
    run()
