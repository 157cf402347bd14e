"""Where signals come from. Each source reports normalised records and fails closed to unknown."""
