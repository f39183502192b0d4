"""The measures themselves: torch, torchmetrics and numpy only, no host library and no input or output."""
