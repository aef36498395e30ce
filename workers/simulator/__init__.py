"""A faithful stand-in for the Lingma binary: same command line, same files, same wire, no model.

Not part of the worker: it shares no code with it and is only ever started as a subprocess, by demos, tests
and benches. README.md lists every knob.
"""
