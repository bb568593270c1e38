"""segjax: train, evaluate, predict, and look before you leap.

python run.py --config=configs/quickstart.py --workdir=runs/quickstart
python run.py --mode=eval --workdir=runs/quickstart
python run.py --mode=predict --workdir=runs/quickstart --input='photos/*.jpg' --output=out
python run.py --mode=export --workdir=runs/quickstart --publisher=segjax --output=x.safetensors
python run.py --mode=summary --config=configs/quickstart.py
python run.py --mode=plan --config=configs/camvid.py --devices=64 --config.mesh.fsdp=8
python run.py --mode=predict --help
"""

import signal

if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # Ctrl-C in the imports: no traceback

from segjax.commands import cli

if __name__ == "__main__":
    cli.program()
