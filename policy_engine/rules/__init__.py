"""Rules: packs and tables as Casbin lines, compiled into `core` form. The only room that imports casbin."""

from policy_engine.rules.enforcer import CompiledEnforcer
from policy_engine.rules.functions import Declared
from policy_engine.rules.stock import check_distribution, silence, stock_enforcer

__all__ = ["CompiledEnforcer", "Declared", "check_distribution", "silence", "stock_enforcer"]
