"""The hundred-LoRA experiment: stacks of 1 to 256 adapters on the world, and what is left of each.

Comes in: the model that ships. Goes out: a row for each (number of members, way to compose): what share of
its effect each member keeps, what the stack does to prompts that none of them edits, to pictures and to
planted shares, its time and memory, and whether the interference report, read before anything is drawn, says
who loses.
"""
