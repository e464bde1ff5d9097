"""Output of an evaluation: result files, tables, plots and pages."""
