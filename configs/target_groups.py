"""Target groups by similarity; generated, do not edit by hand.

Command: python -m densityjax.target_grouping --config=configs/elastic.py
    --out=configs/target_groups.py --details=docs/results/target_groups
Dataset: elastic_densities/grid32 2.0.0, archive 1c62bea272ae03bf
Method: distance correlation, average linkage, cut by silhouette
Date: 2026-11-26
"""

DATASET = 'elastic_densities'
VERSION = '2.0.0'
FINGERPRINT = '1c62bea272ae03bf'
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
        # stability 0.98, exactly again in 92% of resamples; similarity 0.44 to 0.87
        ('bulk_modulus', 'volume', 'density', 'fermi_energy', 'bandwidth'),
        # stability 1.00, exactly again in 100% of resamples
        ('total_energy',),
        # stability 0.97, exactly again in 94% of resamples; similarity 0.64 to 0.64
        ('formation_energy_per_atom', 'band_gap'),
    ),
    1: (
        # stability 0.98, exactly again in 94% of resamples; similarity 0.44 to 0.86
        ('bulk_modulus', 'volume', 'density', 'fermi_energy', 'bandwidth'),
        # stability 1.00, exactly again in 100% of resamples
        ('total_energy',),
        # stability 0.97, exactly again in 94% of resamples; similarity 0.69 to 0.69
        ('formation_energy_per_atom', 'band_gap'),
    ),
    2: (
        # stability 0.97, exactly again in 89% of resamples; similarity 0.44 to 0.87
        ('bulk_modulus', 'volume', 'density', 'fermi_energy', 'bandwidth'),
        # stability 1.00, exactly again in 100% of resamples
        ('total_energy',),
        # stability 0.94, exactly again in 90% of resamples; similarity 0.68 to 0.68
        ('formation_energy_per_atom', 'band_gap'),
    ),
    3: (
        # stability 0.80, exactly again in 45% of resamples; similarity 0.16 to 0.87
        ('bulk_modulus', 'volume', 'density', 'formation_energy_per_atom', 'fermi_energy',
         'band_gap', 'bandwidth'),
        # stability 1.00, exactly again in 100% of resamples
        ('total_energy',),
    ),
    4: (
        # stability 0.87, exactly again in 46% of resamples; similarity 0.42 to 0.87
        ('bulk_modulus', 'volume', 'density', 'fermi_energy', 'bandwidth'),
        # stability 1.00, exactly again in 100% of resamples
        ('total_energy',),
        # stability 0.72, exactly again in 50% of resamples; similarity 0.62 to 0.62
        ('formation_energy_per_atom', 'band_gap'),
    ),
}
