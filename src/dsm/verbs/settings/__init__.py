"""The settings of the verbs, apart from their code in ``verbs/``: one file for each kind of work.

The command line shows and checks them before it imports a verb, which takes seconds.
"""
