"""The whole idea in one run on the embedded model: audit, repair, audit again, fold, restore, report.

In: an output folder. Out: adapter.safetensors, evidence, results.json and report.html in it. spec.toml and
goal.toml beside this file are the questions and the repair, written as a user would write their own.
"""
