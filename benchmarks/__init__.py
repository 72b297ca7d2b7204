"""Speed, measured side by side in one run: `make bench`, or `python -m benchmarks --quick`.

A rate alone says more of the machine than of the code. So each HTTP line runs the engine and a server that does
nothing, alternately, on the same machine in the same minutes, and judges the ratio. Both figures are printed.
"""
