"""Memory-efficient backpropagation through time (Gruslys et al. 2016): steps are made again."""
