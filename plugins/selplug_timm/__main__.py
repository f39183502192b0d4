"""``python -m selplug_timm SCRIPT ARGUMENTS``."""

from .launch.run import main

if __name__ == "__main__":
    main()
