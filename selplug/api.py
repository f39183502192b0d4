from .audits.api import audit, audit_subject

__all__ = ["audit", "audit_subject"]
