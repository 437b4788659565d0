sluice_test(model reference sluice_reference)
