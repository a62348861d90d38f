# How `make lab` serves the course. What you change inside JupyterLab is kept in .jupyter/local, outside of git.
import os
from pathlib import Path

c = get_config()  # noqa: F821 (Jupyter defines it)

c.ServerApp.root_dir = str(Path(__file__).resolve().parents[1])
c.ServerApp.allow_root = os.geteuid() == 0  # containers often run as root
c.LabApp.default_url = "/lab/tree/notebooks/00_start_here.ipynb"

c.Application.log_level = "WARN"  # prints the address and what goes wrong, no more
c.KernelManager.transport_encryption = "auto"  # between JupyterLab and a notebook's kernel

# Nothing asks the network.
c.LabApp.news_url = None
c.LabApp.check_for_updates_class = "jupyterlab.handlers.announcements.NeverCheckForUpdate"
c.LabApp.extension_manager = "readonly"
