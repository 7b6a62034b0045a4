"""The command line: options, progress and printing; what is done is done in the layers below."""
