"""A tiny run on a folder data set, for the command-line tests."""

from configs import quickstart


def get_config(arg: str = ""):
    config = quickstart.get_config("debug")
    config.input.source = dict(type="folder", root="/nowhere")
    config.input.size = (40, 48)
    config.input.fit = "pad"
    return config
