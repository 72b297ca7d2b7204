"""policy_engine: decides who may use which restricted AI model, proves it afterwards, and can withdraw a model.

Importing this package loads no web framework, no SQLAlchemy, no casbin and no HTTP library; `PolicyEngine.open` and
`PolicyEngine.connect` load what they need.
"""

from policy_engine.core.decision import Decision, DecisionDenied, Reason
from policy_engine.core.listed import Listed
from policy_engine.core.questions import Question
from policy_engine.embed import PolicyEngine

__all__ = ["Decision", "DecisionDenied", "Listed", "PolicyEngine", "Question", "Reason"]
__version__ = "0.1.0"
