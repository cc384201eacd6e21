"""What a user can mend is told in one line; whatever else goes wrong is a fault of ours and keeps its traceback."""

import dataclasses
import os
import re
from collections.abc import Callable

from hydra.errors import HydraException, MissingConfigException
from omegaconf.errors import OmegaConfBaseException

import data
import models
from experiments.records import one_line as endings
from experiments.training.checks import settable, unknown_key, unknown_value

GROUP = "Config group override"  # begins Hydra's ValueError for model=null
# Lines of Hydra's and OmegaConf's messages that tell a user nothing.
HYDRA_CONTEXT = ("full_key:", "object_type=", "reference_type=")
# By what they say of a value: what would be one.
REMEDIES = {
    "converted to Integer": "give a whole number",
    "converted to Float": "give a number",
    "is not a valid bool": "give true or false",
    "Invalid type assigned": "set its keys one by one, such as optim.name=sgd or tuning.seeds=[1000]",
    "not in 'LauncherConfig'": "on a cluster, give hydra/launcher=slurm before its options",
    "mismatched input": "quote a value with such characters twice, \"key='value'\"",
    "extraneous input": "quote a value with such characters twice, \"key='value'\"",
    "no viable alternative": "quote a value with such characters twice, \"key='value'\"",
    "token recognition error": "quote a value with such characters twice, \"key='value'\"",
    "LexerNoViableAlt": "quote a value with such characters twice, \"key='value'\"",
}
EXPECTED = (data.DataError, models.ModelError, models.KernelError)


def one_line(error: BaseException) -> str:
    """The message of an error without the paragraphs that Hydra and OmegaConf put around it."""
    if isinstance(error, MissingConfigException) and error.options and error.missing_cfg_file:
        group, _, name = error.missing_cfg_file.rpartition("/")
        # Which of these data images are is up to the scale (experiments/sweeps/options.py).
        return str(unknown_value(group, name, (found for found in error.options if not found.startswith("images_"))))
    cause = error.__cause__ if isinstance(error, HydraException) else None
    text = str(error) if cause is None or str(cause) in str(error) else f"{error}; {cause}"
    override = getattr(error, "override", None) or ""
    text = (text if override in text else f"{override}: {text}").replace(GROUP, "model, data, experiment and scale")
    text = re.sub(r"To append to your config use \S+", "", text)
    text = text.split("Config search path:")[0].split("Set the environment variable")[0]
    lines = [line.strip() for line in text.splitlines() if not line.lstrip().startswith(HYDRA_CONTEXT)]
    known = getattr(cause or error, "object_type", None)
    if dataclasses.is_dataclass(known) and isinstance(known, type) and settable(known) and "' not in '" in text:
        lines.append(f"; {unknown_key(getattr(cause or error, 'full_key', None) or '', known)}")
    said = " ".join(line for line in lines if line).replace(" ;", ";").partition(" See https://hydra.cc")[0]
    return said + next((f"; {remedy}" for words, remedy in REMEDIES.items() if words in said), "")


def told_in_one_line(command: Callable[[], None]) -> None:
    """Run a command that composes configurations or trains."""
    os.environ["HYDRA_FULL_ERROR"] = "1"  # else Hydra prints paragraphs and exits by itself
    endings.told_in_one_line(command, words)


def words(error: Exception) -> str | None:
    """What Hydra, OmegaConf, the data and the models have to say; None of other errors."""
    known = isinstance(error, (HydraException, OmegaConfBaseException, *EXPECTED)) or GROUP in str(error)
    return one_line(error) if known else None
