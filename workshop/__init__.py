"""The musician's commands: `python -m workshop mix | play | preview | bank | finetune`."""
