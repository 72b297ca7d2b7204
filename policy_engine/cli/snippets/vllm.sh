# vLLM behind policy_engine: every route is guarded (/invocations too), and /health alone is not.
# In the environment of vLLM: pip install "policy-engine[jwt]"
export POLICY_ENGINE_URL=https://pdp.example:8181
export POLICY_ENGINE_KEY=pe_THE_KEY_OF_THIS_PROXY
# Who calls: tokens of this issuer, for this audience, signed with these keys; the tenant is a claim of theirs.
export POLICY_ENGINE_GUARD_ISSUER=https://login.example
export POLICY_ENGINE_GUARD_AUDIENCE=models
export POLICY_ENGINE_GUARD_JWKS=https://login.example/jwks.json
export POLICY_ENGINE_GUARD_TENANT_CLAIM=tenant
# Where the callers are, if that is known for all of them (the key needs --supplies location); else leave it out.
export POLICY_ENGINE_GUARD_LOCATION=US
# The name that is served here, and the model of the catalogue that it is.
export POLICY_ENGINE_GUARD_MODELS=our-model=fable-5
vllm serve our/weights --served-model-name our-model --middleware policy_engine.middleware.vllm.Guard
