from .audits.files import check_writable, save
from .audits.record import SCHEMA_VERSION
from .audits.report import Report

__all__ = ["SCHEMA_VERSION", "Report", "check_writable", "save"]
