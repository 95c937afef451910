"""Numbers of statistics that several kernels need."""

MAD_TO_SIGMA = 1.482602218505602  # 1 / norm.ppf(0.75): sigma of Gaussian samples over their median absolute deviation
