"""The settings of the verbs, apart from their code in ``verbs/``: one file for each kind of work.

The command line can show and check them without importing a verb, which takes seconds.
"""
