"""The command line: ``swahr train | evaluate | predict | show | render | convert | score``."""
