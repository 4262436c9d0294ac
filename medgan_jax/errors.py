"""Errors that a user can cause, as one line that names the thing and the mend."""


class UserError(Exception):
    """A mistake in input, options or files; the command line prints it and exits with status 2."""


class DamagedCheckpointError(UserError):
    """A checkpoint does not verify; an older one may."""
