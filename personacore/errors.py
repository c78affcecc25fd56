"""The one error that is the user's to mend."""


class UserError(ValueError):
    """Input that cannot be used; the message is one line that names the file or key and what to do."""
