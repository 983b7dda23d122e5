"""Target groups by similarity; generated, do not edit by hand.

Command: python -m densityjax.target_grouping --config=configs/elastic.py
    --out=configs/target_groups.py --details=docs/results/target_groups
Dataset: elastic_densities/grid32 1.0.0, archive 91c57f90a104e34d
Method: distance correlation, average linkage, cut by silhouette
Date: 2026-11-25
"""

DATASET = 'elastic_densities'
VERSION = '1.0.0'
FINGERPRINT = '91c57f90a104e34d'
TARGETS = ('bulk_modulus', 'volume', 'density', 'total_energy', 'formation_energy_per_atom',
 'fermi_energy', 'band_gap', 'bandwidth')
# Folds whose labels each test fold's groups were computed from.
TRAIN_FOLDS = {0: (2, 3, 4), 1: (3, 4, 0), 2: (4, 0, 1), 3: (0, 1, 2), 4: (1, 2, 3)}
SETTINGS = {'similarity': 'distance_correlation',
 'similarities': ('pearson', 'spearman', 'distance_correlation', 'mutual_information'),
 'num_groups': 0,
 'permutations': 499,
 'bootstraps': 200,
 'neighbours': 3,
 'transfer_neighbours': 5,
 'max_materials': 2000,
 'epochs': 10,
 'seed': 0,
 'linkage': 'average',
 'spin_polarized_only': False}
GROUPS = {
    0: (
        # stability 0.92, exactly again in 69% of resamples; similarity 0.48 to 0.86
        ('bulk_modulus', 'volume', 'density', 'fermi_energy', 'bandwidth'),
        # stability 0.99, exactly again in 98% of resamples
        ('total_energy',),
        # stability 0.82, exactly again in 70% of resamples; similarity 0.61 to 0.61
        ('formation_energy_per_atom', 'band_gap'),
    ),
    1: (
        # stability 0.92, exactly again in 70% of resamples; similarity 0.49 to 0.86
        ('bulk_modulus', 'volume', 'density', 'fermi_energy', 'bandwidth'),
        # stability 1.00, exactly again in 100% of resamples
        ('total_energy',),
        # stability 0.83, exactly again in 70% of resamples; similarity 0.67 to 0.67
        ('formation_energy_per_atom', 'band_gap'),
    ),
    2: (
        # stability 0.86, exactly again in 48% of resamples; similarity 0.48 to 0.87
        ('bulk_modulus', 'volume', 'density', 'fermi_energy', 'bandwidth'),
        # stability 1.00, exactly again in 100% of resamples
        ('total_energy',),
        # stability 0.67, exactly again in 49% of resamples; similarity 0.65 to 0.65
        ('formation_energy_per_atom', 'band_gap'),
    ),
    3: (
        # stability 0.81, exactly again in 55% of resamples; similarity 0.21 to 0.86
        ('bulk_modulus', 'volume', 'density', 'formation_energy_per_atom', 'fermi_energy',
         'band_gap', 'bandwidth'),
        # stability 1.00, exactly again in 100% of resamples
        ('total_energy',),
    ),
    4: (
        # stability 0.76, exactly again in 38% of resamples; similarity 0.62 to 0.86
        ('bulk_modulus', 'volume', 'density', 'fermi_energy'),
        # stability 1.00, exactly again in 100% of resamples
        ('total_energy',),
        # stability 0.68, exactly again in 38% of resamples; similarity 0.45 to 0.59
        ('formation_energy_per_atom', 'band_gap', 'bandwidth'),
    ),
}
