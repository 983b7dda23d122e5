"""What a user can mend about a dataset. Imports no TensorFlow Datasets, which takes a second."""

from densityjax.runtime.errors import UserError


class DatasetSourceError(UserError):
    """The data to build from are missing or damaged; the message names the file and the remedy."""


class UnknownDatasetError(UserError):
    """There is no such dataset or config; the message names those that there are."""
