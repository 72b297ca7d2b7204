"""`python -m policy_engine_witness`."""

from policy_engine_witness.cli import main

if __name__ == "__main__":
    main()
