"""Eight properties at once from the charge density, on 1,151 real crystals (the default config).

Reproduces: the setting of arXiv 2510.13207 (eight targets, one multi-scale attention 3D CNN) at
the size of two CPU cores; densities and labels of tfds_builders/elastic_densities.
Command: python -m densityjax.main --config=configs/elastic.py --workdir=runs/elastic
"""

from ml_collections import ConfigDict


def get_config() -> ConfigDict:
    """Every key of every config is declared here."""
    config = ConfigDict()
    config.seed = 0
    # The paper's eight targets; names are those of densityjax/targets.py, or of the dataset where
    # it has targets of its own. () stands for all targets of the dataset.
    config.targets = (
        "bulk_modulus", "volume", "density", "total_energy", "formation_energy_per_atom",
        "fermi_energy", "band_gap", "bandwidth",
    )
    # Each group of targets trains a trunk of its own: 'all' in one, 'single' (one each), a file
    # that densityjax.target_grouping wrote, 'random 0 of FILE' (a random partition with the sizes
    # of the file's groups), or the groups themselves: 'bulk_modulus+volume,band_gap+...'.
    config.groups = "all"

    # Start from the weights of another model instead of at random: its trunk, and its heads of
    # targets of the same name. The directory of a finished run or of an exported model, or the name
    # of one that ships; '' is at random.
    config.init = ""

    # Several runs of the same targets, the members, whose predictions are averaged.
    config.ensemble = ensemble = ConfigDict()
    ensemble.seeds = 1  # members with seed, seed + 1, ...
    # True: each of train_folds and validation_fold is the validation fold of one member per seed,
    # which trains on the others. No member sees test_fold.
    ensemble.rotate = False
    # Of every member the predictions of so many states are averaged, the best by validation loss.
    ensemble.epochs = 1

    config.data = data = ConfigDict()
    data.name = "elastic_densities/grid32"
    data.data_dir = "data"
    data.build = True  # build the dataset when it is not there
    # Folder that a dataset is built from: densities and labels.csv (density_folder), downloads
    # (materials_project), parquet shards (lemat_rho).
    data.source = ""
    # Folds of density_folder: 'fold' (the column of that name), 'system' (no chemical system in two
    # folds), 'id' (hash of the material id), 'auto' (fold if there is such a column, else system).
    data.split = "auto"
    data.strict = False  # stop at what is wrong with such a folder, instead of listing it
    data.train_folds = (2, 3, 4)
    # Of the training folds only this share of the chemical systems, drawn with the seed.
    data.train_fraction = 1.0
    data.validation_fold = 1  # every choice is made here
    # Looked at by the report alone. -1: no fold is kept back, as for a model that is given away;
    # what files and report call the test set is then the validation fold once more.
    data.test_fold = 0
    data.spin_polarized_only = False
    # Elements never trained on: materials of any fold with one of them are the test set, which
    # replaces test_fold; the others train and validate as the folds say.
    data.held_out_elements = ()
    # Holds 131 kB per material and channel at grid32; False reads densities when they are used, and
    # memory grows by 0.4 kB per material.
    data.cache_in_memory = True

    config.input = input_ = ConfigDict()
    input_.channels = 1  # 1 charge, 2 charge and magnetisation
    # What everything that reads densities sees of an atom's core: 'all', or its 'charge' alone, on
    # which codes and pseudopotentials of the same valence agree (densityjax/density/core.py).
    input_.core = "all"
    # Latents of an autoencoder (configs/ecd) in the place of densities: the directory of its run,
    # made by densityjax.pretrain; '' is none. Needs view.kind 'fractional' without
    # cube_operations, and transform 'linear'; rolls are by whole voxels of the latent.
    input_.encoder = ""
    # 'linear' e/Å^3, 'times_volume' rho * V as VASP stores it, 'log', or 'log_and_linear' (a
    # channel each).
    input_.transform = "log_and_linear"
    input_.log_clamp = 1e-3  # e/Å^3; lower densities are raised to it before the logarithm
    input_.lattice_features = "volume_per_electron"  # 'none', 'volume_per_electron', 'metric'
    # Principal components beside the pooled trunk (densityjax/features), so many of each block; 0:
    # none, as in the paper. Of the density's invariants; of the structure (composition and bonds)
    # of the elements that the density itself tells, by what training atoms look like; of the
    # composition, and of the structure, of the elements that the file names.
    input_.invariants = 128
    input_.identified = 96
    input_.composition = 0
    input_.structure = 0

    # Targets that are learned beside and never reported: means over the atoms of elemental
    # properties (columns of densityjax/features/element_properties.csv).
    config.auxiliary = auxiliary = ConfigDict()
    auxiliary.properties = ()
    auxiliary.weight = 1.0  # in the loss, of each; targets have 1 or their loss.target_weights

    # Learners without a network that are fitted beside the model and reported with it (each a mean
    # of two Gaussian processes and extra-trees): 'composition', 'invariants' of the density,
    # 'density' (these and the elements that the density tells), 'both' (composition, invariants),
    # 'all' (structure, invariants).
    config.yardsticks = ("composition", "invariants", "density", "both")
    # What answers: 'network' and any of the yardsticks, mixed by weights that are fitted on the
    # validation fold (of a rotated ensemble: out of fold). () is the network alone.
    config.stack = stack = ConfigDict()
    stack.learners = ("network", "invariants", "density")

    # What is learned of densities without labels: by densityjax.pretrain alone, by densityjax.main
    # beside the targets, in a pass of its own over each batch.
    config.pretraining = pretraining = ConfigDict()
    # Weight of each in the loss, where a target has 1; 0: not learned. The field where blocks of
    # it are hidden, where it has noise, or where nothing is done to it, see
    # densityjax/model/objectives.py.
    pretraining.objectives = objectives = ConfigDict()
    objectives.masked = 0.0
    objectives.denoising = 0.0
    objectives.reconstruction = 0.0
    # Of each voxel: row, column and electronegativity of the nearest nucleus; the density minus
    # average atoms. Of the view: principal components of the density's invariants.
    objectives.nearest_element = 0.0
    objectives.deformation = 0.0
    objectives.invariants = 0.0
    pretraining.hidden = 0.5  # share of the blocks that 'masked' hides (cartesian)
    pretraining.block = 1.2  # Å, edge of a block
    pretraining.noise = 0.5  # that 'denoising' adds, in standard deviations of the field
    pretraining.components = 32  # of the invariants
    pretraining.decoder_width = 64
    # Datasets whose densities are learned from beside the training folds of config.data, all folds:
    # 'lemat_rho/grid32', and 'density_folder/grid32=/my/folder' of one that is built from a folder.
    pretraining.sources = ()
    # A file of materials that are never learned from: a material id or chemical system per line,
    # or a CSV with such columns. '': none.
    pretraining.exclude = ""
    # What of sources is not learned from, because it is like the validation and test rows of
    # config.data or like an excluded material: all of the same 'system' of elements, 'formula', or
    # material 'id'; or 'nothing', with which the test set is seen, its labels excepted.
    pretraining.withhold = "system"

    config.intervals = intervals = ConfigDict()
    # Leave what densityjax.predict makes intervals from (densityjax/training/calibrate.py).
    intervals.calibrate = True

    config.view = view = ConfigDict()
    view.kind = "cartesian"  # 'fractional' or 'cartesian'
    view.size = 24  # voxels along an edge (cartesian)
    view.spacing = 0.3  # Å (cartesian)
    view.padding = "zero"  # 'zero' or 'valid' (cartesian; the fractional view is periodic)
    view.roll = True  # random origin
    view.cube_operations = True  # random axis relabelling and mirror images (fractional)
    view.rotate = True  # random orientation and mirror images (cartesian)
    view.flip_spin = True
    view.validation_views = 2  # averaged per material during training
    view.evaluation_views = 8  # averaged per material at the end

    config.model = model = ConfigDict()
    model.name = "msa3dcnn"
    model.widths = (32, 64)
    model.blocks = (2, 2)
    model.stem_stride = 2
    model.dilations = (1, 2)
    model.attention = ("channel", "spatial")
    model.head_width = 64
    model.dropout = 0.2  # of the embedding that the heads share
    model.implementation = "auto"  # of convolutions, see densityjax/model/ops/conv3d.py
    # Width of a bottleneck layer at the end of every residual block, which begins as the identity:
    # what a module of densityjax.modules learns while the trunk stays as it is. 0: none.
    model.adapter = 0
    # Physics that predictions obey exactly (densityjax/constraints.py): 'elastic', 'gap',
    # 'positive', 'even_spin'. One that speaks of none of the targets changes nothing.
    model.constraints = ()
    model.dtype = "float32"  # 'float32' or 'bfloat16'; parameters are float32
    model.remat = False  # compute residual blocks again in the backward pass: less memory

    config.loss = loss = ConfigDict()
    loss.regression = "mse"  # 'mse' or 'huber'
    loss.huber_delta = 1.0  # standard deviations
    loss.target_weights = ConfigDict()  # {target: factor}, 1 where absent
    loss.weighting = "fixed"  # 'fixed' or 'uncertainty'
    loss.balance_classes = False

    config.optimizer = optimizer = ConfigDict()
    optimizer.learning_rate = 2e-3
    # Of the trunk over that of the heads: 1 in a model that is trained from the start, less where
    # config.init gives a trunk; 0 leaves it as it is.
    optimizer.trunk_rate = 1.0
    # First share of the steps in which the heads learn alone, adapters not; then all. 0: none.
    optimizer.head_first = 0.0
    optimizer.warmup_fraction = 0.05
    optimizer.weight_decay = 1.0
    optimizer.clip_norm = 1.0
    optimizer.b1 = 0.9
    optimizer.b2 = 0.99

    config.train = train = ConfigDict()
    train.batch_size = 16  # over all devices and micro-batches
    train.accumulation_steps = 1
    train.epochs = 25
    train.evaluate_every_epochs = 5
    train.early_stop_evaluations = 0  # stop after so many without a better loss; 0: never
    train.ema_decay = 0.99
    # Beside the checkpoint after every evaluation; what a kill costs at most. 0: none.
    train.checkpoint_every_steps = 200
    # Batches in a row whose loss or gradient is not finite, after which the run stops.
    train.max_skipped_steps = 10
    train.log_every_steps = 10
    # Of several processes: one that is silent for so long is dead, and the others end.
    train.heartbeat_seconds = 60
    # Of several processes: all end when no batch was finished for so long. 0: never.
    train.watchdog_seconds = 1800
    train.num_threads = 2  # that read and decode records ahead of the step

    # Read by densityjax.target_grouping alone.
    config.grouping = grouping = ConfigDict()
    grouping.similarity = "distance_correlation"  # what the groups are made from
    # Computed and written; 'transfer', 'task_affinity' and 'gradient_cosine' train models.
    grouping.similarities = (
        "pearson", "spearman", "distance_correlation", "mutual_information",
    )
    grouping.num_groups = 0  # 0: chosen by silhouette
    grouping.permutations = 499
    grouping.bootstraps = 200
    grouping.neighbours = 3  # of mutual information
    grouping.transfer_neighbours = 5
    grouping.max_materials = 2000  # that similarities of n^2 memory see
    grouping.epochs = 10  # of the models that similarities train
    grouping.seed = 0

    # Read by densityjax.modules alone: what a composition is found from.
    config.modules = modules = ConfigDict()
    # Predictors on the embeddings of a module: nearest neighbours, kernel ridge, or whichever errs
    # less on rows of chemical systems that it did not see. Settings are chosen by the same rows.
    modules.proxy = "neighbours"  # 'neighbours', 'kernel_ridge' or 'best'
    # Weights are means over resamples of the chemical systems, which few labels sway less; False:
    # fitted once, as in arXiv 2502.15483.
    modules.resampled = True
    modules.neighbours = (3, 5, 10)
    modules.temperatures = (0.05, 0.2, 1.0)  # of weights and kernels, over the cosine
    modules.ridges = (0.01, 0.1, 1.0)
    modules.bootstraps = 200  # resamples
    modules.min_labels = 10  # under which the start is taken as it is
    return config.lock()
