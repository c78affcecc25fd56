"""What stands in the targets of a language model where there is nothing to predict."""

IGNORED = -100  # the target that `cross_entropy` leaves out
