"""The R1 factory: generate, verify, score, judge, select and release reasoning traces.

Importing this package loads none of torch, trl, vllm, ray or datasets: they are imported
inside the functions that need them.
"""
