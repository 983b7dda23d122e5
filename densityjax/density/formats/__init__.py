"""File formats, one a file: text, table row or JSON in, `Density` out.

Files, each importing only from those above it:

  compression: Compressed bytes in, plain bytes out, within a stated limit of memory.
  foreign: Files that are no density text
  hdf5: HDF5: vaspwave.h5 of VASP, and what pymatgen's `Chgcar.to_hdf5` writes.
  row: Rows of a table (parquet) with a flat density and its shape, as in LeMat-Rho.
  text: Lines and numbers of a text, with their position in every error.
  unit: Units and cells of files that do not state them, found by their electrons and
      distances.
  chgcar_json: pymatgen's Chgcar as JSON, as the Materials Project keeps its densities.
  cube: Gaussian cube.
  vasp: VASP's CHGCAR, CHG, AECCAR and PARCHG, of versions 4 to 6.
  xsf: XCrySDen's XSF.
"""
