"""policy_engine: decides who may use which restricted AI model, proves it afterwards, and can withdraw a model.

Importing this package loads no web framework, no SQLAlchemy and no casbin; `PolicyEngine.open` does.
"""

from policy_engine.core.decision import Decision, DecisionDenied, Reason
from policy_engine.embed import PolicyEngine

__all__ = ["Decision", "DecisionDenied", "PolicyEngine", "Reason"]
__version__ = "0.1.0"
