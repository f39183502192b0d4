"""``python -m selplug_timm SCRIPT ARGUMENTS``."""

from .launch import main

if __name__ == "__main__":
    main()
