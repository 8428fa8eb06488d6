from advdenoise import submodules

__getattr__, __dir__ = submodules(__name__)
