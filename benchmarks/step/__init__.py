"""A step of a head (loss, gradients of features and weight): ours beside others, in time, memory and agreement."""
