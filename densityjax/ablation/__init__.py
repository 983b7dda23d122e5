"""A plan of variants -> runs -> tables of paired differences."""
