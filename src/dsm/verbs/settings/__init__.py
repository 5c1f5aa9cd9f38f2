"""The settings of the verbs, apart from their code in ``verbs/``; files have the same names.

The command line shows and checks them before it imports a verb, which takes seconds.
"""
