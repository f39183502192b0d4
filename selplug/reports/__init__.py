"""Reports: what an audit found, as files to keep, a page to read and tables for the terminal."""

from .report import SCHEMA_VERSION, Report
from .saving import check_writable, save

__all__ = ["SCHEMA_VERSION", "Report", "check_writable", "save"]
